"""Heads that generate the reasoning of a case."""

from ctvlm.models.heads.generation.cot_generation_head import CoTGenerationHead
from ctvlm.models.heads.generation.prefix_generation_head import PrefixGenerationHead

__all__ = ["CoTGenerationHead", "PrefixGenerationHead"]
