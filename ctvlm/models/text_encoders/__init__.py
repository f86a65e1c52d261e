"""Text encoders."""

from ctvlm.models.text_encoders.base import BaseTextEncoder
from ctvlm.models.text_encoders.compact import CompactTextEncoder
from ctvlm.models.text_encoders.hf import HFTextEncoder

__all__ = ["BaseTextEncoder", "CompactTextEncoder", "HFTextEncoder"]
