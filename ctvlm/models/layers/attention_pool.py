"""Attention over a sequence, with its mean as the query."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor


class AttentionPool(nn.Module):
    """Tokens (B, N, E) to one vector (B, E): attention whose query is the mean of the tokens."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, batch_first=True)

    def forward(self, x_BNE: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """``mask_BN``: True for tokens that count, at least one of each row; ``None``: all."""
        if mask_BN is None:
            return self.attn(x_BNE.mean(dim=1, keepdim=True), x_BNE, x_BNE, need_weights=False)[0][:, 0]
        weight_BN1 = mask_BN[..., None].to(x_BNE.dtype)
        mean_B1E = (x_BNE * weight_BN1).sum(dim=1, keepdim=True) / weight_BN1.sum(dim=1, keepdim=True)
        return self.attn(mean_B1E, x_BNE, x_BNE, key_padding_mask=~mask_BN, need_weights=False)[0][:, 0]
