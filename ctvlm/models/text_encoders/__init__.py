"""Encoders of radiology text."""

from ctvlm.models.text_encoders.base import BaseTextEncoder
from ctvlm.models.text_encoders.compact import CompactTextEncoder

__all__ = ["BaseTextEncoder", "CompactTextEncoder"]
