"""Full attention with a gate for each slice."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctvlm.models.attention import FullAttention
from ctvlm.registry import ATTENTION
from ctvlm.structures import TokenContext


@ATTENTION.register_module()
class SliceGatedAttention(FullAttention):
    """Attention between all tokens. A gate computed from the mean feature of a token's slice scales the output.

    Slices at the edge of a scan can thus ignore the others. Gates start almost open: sigmoid(2) = 0.88.
    """

    def __init__(self, embed_dims: int, num_heads: int, qkv_bias: bool = True):
        super().__init__(embed_dims, num_heads, qkv_bias)
        self.gate = nn.Linear(embed_dims, embed_dims)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, 2.0)

    def forward(self, x_BNE: Tensor, ctx: TokenContext) -> Tensor:
        slices_BNd = ctx.z_onehot_BNd(x_BNE.dtype)
        masked_BNd = slices_BNd if ctx.token_mask_BN is None else slices_BNd * ctx.token_mask_BN[..., None]
        sizes_Bd1 = masked_BNd.sum(dim=1)[..., None].clamp(min=1)
        mean_BdE = masked_BNd.transpose(1, 2) @ x_BNE / sizes_Bd1
        gate_BdE = torch.sigmoid(self.gate(mean_BdE))
        return super().forward(x_BNE, ctx) * (slices_BNd.to(gate_BdE.dtype) @ gate_BdE)
