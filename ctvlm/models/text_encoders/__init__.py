"""Text encoders."""

from ctvlm.models.text_encoders.base import BaseTextEncoder
from ctvlm.models.text_encoders.compact import CompactTextEncoder
from ctvlm.models.text_encoders.hf import HFTextEncoder
from ctvlm.models.text_encoders.published import PublishedTextEncoder

__all__ = ["BaseTextEncoder", "CompactTextEncoder", "HFTextEncoder", "PublishedTextEncoder"]
