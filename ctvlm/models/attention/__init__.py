"""Attention over patch tokens, and from patches to regions."""

from ctvlm.models.attention.augmented_sdpa import augmented_sdpa
from ctvlm.models.attention.base import SelfAttention
from ctvlm.models.attention.full_attention import FullAttention
from ctvlm.models.attention.grid_attention import AxialAttention, ColumnAttention, GridAttention, SliceWindowAttention
from ctvlm.models.attention.literal_region_aware_attention import LiteralRegionAwareAttention
from ctvlm.models.attention.literal_slice_aware_attention import LiteralSliceAwareAttention
from ctvlm.models.attention.region_aware_attention import RegionAwareAttention
from ctvlm.models.attention.slice_aware_attention import SliceAwareAttention

__all__ = [
    "AxialAttention",
    "ColumnAttention",
    "FullAttention",
    "GridAttention",
    "LiteralRegionAwareAttention",
    "LiteralSliceAwareAttention",
    "RegionAwareAttention",
    "SelfAttention",
    "SliceAwareAttention",
    "SliceWindowAttention",
    "augmented_sdpa",
]
