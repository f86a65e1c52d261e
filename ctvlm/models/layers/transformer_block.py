"""One block of the vision encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn as nn
from timm.layers import DropPath
from torch import Tensor

from ctvlm.models.layers.init import init_vit, scale_residual_
from ctvlm.models.layers.mlp import MLP
from ctvlm.registry import ATTENTION, LAYERS
from ctvlm.structures.token_context import TokenContext

# As in ViTs, so that their weights mean the same here.
NORM_EPS = 1e-6


@LAYERS.register_module()
class ThreeDTransformerBlock(nn.Module):
    """Pre-norm block: self-attention, attention to regions (optional), MLP; each added to the stream.

    Args:
        attention: config of a self-attention layer of the ATTENTION registry.
        region_attention: config of a layer that reads ``ctx.region_tokens_BRE``; ``None`` leaves it out.
        depth: number of blocks of the whole encoder, for the residual-friendly initial scale.

    Attributes:
        ends_with_norm: True where the output is normalised, so that the encoder needs no norm after the last block.
    """

    ends_with_norm = False
    norm_eps = NORM_EPS

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attention: dict,
        region_attention: dict | None = None,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        depth: int = 1,
    ) -> None:
        super().__init__()
        sizes = dict(embed_dims=embed_dims, num_heads=num_heads)
        self.norm_attention = nn.LayerNorm(embed_dims, eps=self.norm_eps)
        self.attention = ATTENTION.build(attention, default_args=sizes)
        self.region_attention = None
        if region_attention is not None:
            self.norm_region = nn.LayerNorm(embed_dims, eps=self.norm_eps)
            self.region_attention = ATTENTION.build(region_attention, default_args=sizes)
        self.norm_mlp = nn.LayerNorm(embed_dims, eps=self.norm_eps)
        self.mlp = MLP(embed_dims, int(embed_dims * mlp_ratio), drop)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.mlp.apply(init_vit)
        self.scale_residuals(depth)

    def scale_residuals(self, depth: int) -> None:
        """Shrink the last linear of each branch for ``depth`` blocks."""
        scale_residual_(self.mlp.fc2, depth)
        # By name, because an attention layer may hold several (AxialAttention) or none (a plugin's own).
        for name, module in self.named_modules():
            if name.split(".")[-1] == "proj" and isinstance(module, nn.Linear):
                scale_residual_(module, depth)

    def forward(
        self, x_BNE: Tensor, ctx: TokenContext, pool_regions: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """``pool_regions`` makes region tokens (B, R, E) from the stream as it is after self-attention."""
        x_BNE = x_BNE + self.drop_path(self.attention(self.norm_attention(x_BNE), ctx))
        if self.region_attention is not None:
            if pool_regions is not None:
                ctx = ctx.with_regions(ctx.patch_to_region_BNR1, pool_regions(x_BNE))
            x_BNE = x_BNE + self.drop_path(self.region_attention(self.norm_region(x_BNE), ctx))
        return x_BNE + self.drop_path(self.mlp(self.norm_mlp(x_BNE)))
