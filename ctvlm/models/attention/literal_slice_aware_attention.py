"""Attention with the spec's literal slice-distance table."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from ctvlm.models.attention.slice_aware_attention import SliceAwareAttention
from ctvlm.registry import ATTENTION
from ctvlm.structures import TokenContext


@ATTENTION.register_module()
class LiteralSliceAwareAttention(SliceAwareAttention):
    """Scores get ``slice_distance_weight * slice_bias[head, |z_i - z_j|]`` added before the softmax.

    The table has 32 entries per head and starts at zero. Distances of 32 slices and more share the last entry.

    Args:
        slice_distance_weight: fixed factor of the table.
        backend: as SliceAwareAttention; every backend gives the same numbers.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        slice_distance_weight: float = 0.5,
        backend: str = "sdpa",
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(embed_dims, num_heads, max_distance=32, backend=backend, qkv_bias=qkv_bias)
        self.slice_distance_weight = slice_distance_weight
        nn.init.zeros_(self.slice_bias)

    def bias_matrix(self, ctx: TokenContext) -> Tensor:
        return self.slice_distance_weight * super().bias_matrix(ctx)
