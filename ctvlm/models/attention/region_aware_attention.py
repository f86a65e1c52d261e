"""Attention from patches to anatomical regions."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ctvlm.models.attention.base import check_heads
from ctvlm.models.layers import init_vit
from ctvlm.registry import ATTENTION
from ctvlm.structures import TokenContext


@ATTENTION.register_module()
class RegionAwareAttention(nn.Module):
    """Patches (B, N, E) attend to the R region tokens of ``ctx``, guided by the assignment of patches.

    ``log(assignment + eps)`` is added to the scores. Patches outside all regions attend to a learned background token.
    ``LiteralRegionAwareAttention`` is the spec's literal form.

    Args:
        eps: added to the assignment; larger values give more weight to regions that do not contain the patch.
    """

    def __init__(self, embed_dims: int, num_heads: int, eps: float = 1e-3, qkv_bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.num_heads = num_heads
        self.head_dims = check_heads(embed_dims, num_heads)
        self.norm_regions = nn.LayerNorm(embed_dims)
        self.q = nn.Linear(embed_dims, embed_dims, bias=qkv_bias)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.apply(init_vit)
        self.background = nn.Parameter(torch.zeros(1, 1, embed_dims))
        nn.init.trunc_normal_(self.background, std=0.02)

    def forward(self, x_BNE: Tensor, ctx: TokenContext) -> Tensor:
        assignment_BNM, regions_BME = check_regions(self, ctx)
        background_B1E = self.background.to(regions_BME.dtype).expand(x_BNE.shape[0], -1, -1)
        regions_BME = torch.cat([background_B1E, regions_BME], dim=1)
        k_BMKc, v_BMKc = self.kv(self.norm_regions(regions_BME)).unflatten(-1, (2, self.num_heads, -1)).unbind(2)

        # (x Wq) k' = x (Wq k'), and likewise for the output. Heads x regions are fewer than the channels, so it is
        # cheaper to project the regions to the space of the patches than every patch to the space of the heads.
        query_KcE = self.q.weight.unflatten(0, (self.num_heads, -1))
        keys_BKME = torch.einsum("bmkc,kce->bkme", k_BMKc, query_KcE)
        scores_BNKM = (x_BNE @ keys_BKME.flatten(1, 2).transpose(1, 2)).unflatten(-1, keys_BKME.shape[1:3])
        if self.q.bias is not None:
            query_Kc = self.q.bias.unflatten(0, (self.num_heads, -1))
            scores_BNKM = scores_BNKM + torch.einsum("bmkc,kc->bkm", k_BMKc, query_Kc)[:, None]
        scores_BNKM = scores_BNKM.to(torch.promote_types(scores_BNKM.dtype, torch.float32)) * self.head_dims**-0.5
        scores_BNKM = scores_BNKM + (assignment_BNM + self.eps).log()[:, :, None]
        share_BNx = scores_BNKM.softmax(dim=-1).flatten(2)
        out_EKc = self.proj.weight.unflatten(1, (self.num_heads, -1))
        values_BxE = torch.einsum("bmkc,ekc->bkme", v_BMKc, out_EKc).flatten(1, 2)
        return share_BNx.to(values_BxE.dtype) @ values_BxE + self.proj.bias


def check_regions(layer: nn.Module, ctx: TokenContext) -> tuple[Tensor, Tensor]:
    """Assignment (B, N, R + 1) and region tokens (B, R, E) of a context.

    Raises:
        ValueError: the context does not have them.
    """
    if ctx.region_tokens_BRE is None or ctx.patch_to_region_BNR1 is None:
        raise ValueError(
            f"{type(layer).__name__}: the context has no region tokens or no assignment. Use a region encoder that "
            "provides regions, or set region_attention=None."
        )
    return ctx.patch_to_region_BNR1, ctx.region_tokens_BRE
