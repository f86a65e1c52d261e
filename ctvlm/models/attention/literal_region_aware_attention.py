"""Attention from patches to regions in the spec's literal form."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ctvlm.models.attention.base import check_heads
from ctvlm.models.attention.region_aware_attention import check_regions
from ctvlm.models.layers import init_vit
from ctvlm.registry import ATTENTION
from ctvlm.structures import TokenContext


@ATTENTION.register_module()
class LiteralRegionAwareAttention(nn.Module):
    """Patches (B, N, E) attend to the R region tokens of ``ctx``; scores are multiplied by the assignment.

    ``softmax(q k' / sqrt(c) * assignment) v``, without a norm on the regions and without a background token.
    A product does not mask: a patch outside all regions attends to all regions equally. ``RegionAwareAttention`` is
    the corrected form.
    """

    def __init__(self, embed_dims: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dims = check_heads(embed_dims, num_heads)
        self.q = nn.Linear(embed_dims, embed_dims, bias=qkv_bias)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.apply(init_vit)

    def forward(self, x_BNE: Tensor, ctx: TokenContext) -> Tensor:
        assignment_BNR1, regions_BRE = check_regions(self, ctx)
        q_BKNc = self.q(x_BNE).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k_BKRc, v_BKRc = self.kv(regions_BRE).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        scores_BKNR = (q_BKNc @ k_BKRc.transpose(-1, -2)) * self.head_dims**-0.5
        scores_BKNR = scores_BKNR.to(torch.promote_types(scores_BKNR.dtype, torch.float32))
        share_BKNR = (scores_BKNR * assignment_BNR1[:, None, :, 1:]).softmax(dim=-1)
        return self.proj((share_BKNR.to(v_BKRc.dtype) @ v_BKRc).transpose(1, 2).flatten(2))
