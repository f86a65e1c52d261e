"""Whole vision-language models."""

from ctvlm.models.vlms.cot_contrastive_vlm import CoTContrastiveVLM
from ctvlm.models.vlms.published_vlm import PublishedVLM

__all__ = ["CoTContrastiveVLM", "PublishedVLM"]
