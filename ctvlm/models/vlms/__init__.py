"""Whole vision-language models."""

from ctvlm.models.vlms.cot_contrastive_vlm import CoTContrastiveVLM

__all__ = ["CoTContrastiveVLM"]
