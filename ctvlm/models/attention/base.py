"""Base class of self-attention layers over patch tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import apply_rotary, init_vit
from ctvlm.structures import TokenContext


def check_heads(embed_dims: int, num_heads: int) -> int:
    """Width of a head.

    Raises:
        ValueError: the number of heads does not divide the width.
    """
    if embed_dims % num_heads:
        raise ValueError(f"embed_dims = {embed_dims} is not a multiple of num_heads = {num_heads}")
    return embed_dims // num_heads


class SelfAttention(nn.Module, ABC):
    """Projections, rotary positions and heads; a subclass implements ``attend``.

    ``forward(x_BNE, ctx)`` returns (B, N, E). Rows of padding tokens are finite and have no meaning.
    """

    def __init__(self, embed_dims: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.head_dims = check_heads(embed_dims, num_heads)
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.apply(init_vit)

    @abstractmethod
    def attend(self, q_BKNc: Tensor, k_BKNc: Tensor, v_BKNc: Tensor, ctx: TokenContext) -> Tensor:
        """Attention output of each head (B, K, N, c)."""

    def heads(self, x_BNE: Tensor, ctx: TokenContext) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, K, N, c), with rotary positions."""
        q_BKNc, k_BKNc, v_BKNc = self.qkv(x_BNE).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if ctx.rotary is not None:
            q_BKNc, k_BKNc = apply_rotary(q_BKNc, ctx.rotary), apply_rotary(k_BKNc, ctx.rotary)
        return q_BKNc, k_BKNc, v_BKNc

    def forward(self, x_BNE: Tensor, ctx: TokenContext) -> Tensor:
        out_BKNc = self.attend(*self.heads(x_BNE, ctx), ctx)
        return self.proj(out_BKNc.transpose(1, 2).flatten(2))
