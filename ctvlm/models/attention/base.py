"""What every self-attention layer over patch tokens shares."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import TokenContext, apply_rotary, init_vit


def check_heads(embed_dims: int, num_heads: int) -> int:
    """Width of a head.

    Raises:
        ValueError: the heads do not divide the width.
    """
    if embed_dims % num_heads:
        raise ValueError(f"embed_dims = {embed_dims} is not a multiple of num_heads = {num_heads}")
    return embed_dims // num_heads


class SelfAttention(nn.Module):
    """Projections, rotary positions and heads; a subclass writes ``attend``.

    ``forward(x_BNE, ctx)`` returns (B, N, E). Rows of padding tokens are finite and meaningless.
    """

    def __init__(self, embed_dims: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.head_dims = check_heads(embed_dims, num_heads)
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.apply(init_vit)

    def attend(self, q_BKNc: Tensor, k_BKNc: Tensor, v_BKNc: Tensor, ctx: TokenContext) -> Tensor:
        raise NotImplementedError

    def forward(self, x_BNE: Tensor, ctx: TokenContext) -> Tensor:
        batch, num_tokens, _ = x_BNE.shape
        qkv = self.qkv(x_BNE).view(batch, num_tokens, 3, self.num_heads, self.head_dims)
        q_BKNc, k_BKNc, v_BKNc = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if ctx.rotary is not None:
            q_BKNc, k_BKNc = apply_rotary(q_BKNc, ctx.rotary), apply_rotary(k_BKNc, ctx.rotary)
        out_BKNc = self.attend(q_BKNc, k_BKNc, v_BKNc, ctx)
        return self.proj(out_BKNc.transpose(1, 2).reshape(batch, num_tokens, self.embed_dims))
