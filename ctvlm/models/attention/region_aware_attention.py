"""Attention from patches to anatomical regions."""

from __future__ import annotations

import torch
import torch.nn as nn
from timm.layers import trunc_normal_
from torch import Tensor

from ctvlm.models.attention.base import check_heads
from ctvlm.models.layers import TokenContext, check_choice, init_vit
from ctvlm.registry import ATTENTION

MODES = ("bias", "multiply")


@ATTENTION.register_module()
class RegionAwareAttention(nn.Module):
    """Patches (B, N, E) attend to the R region tokens of ``ctx``, guided by the assignment of patches.

    Args:
        mode: ``'bias'`` adds ``log(assignment + eps)`` to the scores and has a learned background token, so that
            a patch in no region has somewhere to look. ``'multiply'`` is the literal form: scores times
            assignment, no background token; a patch in no region then attends to all regions alike.
        eps: floor of the assignment; how much a patch sees of regions it does not lie in.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, mode: str = "bias", eps: float = 1e-3, qkv_bias: bool = True
    ) -> None:
        super().__init__()
        check_choice("RegionAwareAttention", "mode", mode, MODES)
        self.mode = mode
        self.eps = eps
        self.num_heads = num_heads
        self.head_dims = check_heads(embed_dims, num_heads)
        self.norm_regions = nn.LayerNorm(embed_dims)
        self.q = nn.Linear(embed_dims, embed_dims, bias=qkv_bias)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.apply(init_vit)
        if mode == "bias":
            self.background = nn.Parameter(torch.zeros(1, 1, embed_dims))
            trunc_normal_(self.background, std=0.02)

    def forward(self, x_BNE: Tensor, ctx: TokenContext) -> Tensor:
        if ctx.region_tokens_BRE is None or ctx.patch_to_region_BNR1 is None:
            raise ValueError(
                "RegionAwareAttention got no region tokens or no assignment: give the backbone a region encoder "
                "that provides regions, or leave region_attention out"
            )
        batch, num_tokens, width = x_BNE.shape
        assignment_BNM, regions_BME = ctx.patch_to_region_BNR1, ctx.region_tokens_BRE
        if self.mode == "bias":
            background_B1E = self.background.to(regions_BME.dtype).expand(batch, -1, -1)
            regions_BME = torch.cat([background_B1E, regions_BME], dim=1)
        else:
            assignment_BNM = assignment_BNM[..., 1:]

        q_BKNc = self.q(x_BNE).view(batch, num_tokens, self.num_heads, self.head_dims).transpose(1, 2)
        kv = self.kv(self.norm_regions(regions_BME))
        k_BKMc, v_BKMc = kv.view(batch, -1, 2, self.num_heads, self.head_dims).permute(2, 0, 3, 1, 4)
        # N x (R + 1) scores are small; no fused kernel is needed, and the assignment keeps its gradient.
        scores_BKNM = (q_BKNc * self.head_dims**-0.5) @ k_BKMc.transpose(-1, -2)
        scores_BKNM = scores_BKNM.to(torch.promote_types(scores_BKNM.dtype, torch.float32))
        if self.mode == "bias":
            scores_BKNM = scores_BKNM + (assignment_BNM + self.eps).log()[:, None]
        else:
            scores_BKNM = scores_BKNM * assignment_BNM[:, None]
        out_BKNc = scores_BKNM.softmax(dim=-1).to(v_BKMc.dtype) @ v_BKMc
        return self.proj(out_BKNc.transpose(1, 2).reshape(batch, num_tokens, width))
