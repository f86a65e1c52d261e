"""One block of the vision encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers.init import scale_residual_
from ctvlm.registry import ATTENTION, LAYERS
from ctvlm.structures.token_context import TokenContext

# The value that ViTs use, so that their pretrained weights give the same output here.
NORM_EPS = 1e-6
# Names of the last linear layer of a residual branch: in attention layers and in the MLP.
LAST_LINEARS = ("proj", "fc2")


@LAYERS.register_module()
class ThreeDTransformerBlock(nn.Module):
    """Pre-norm block: self-attention, attention to regions (optional), MLP; each is added to its input.

    Args:
        attention: config of a self-attention layer of the ATTENTION registry.
        region_attention: config of a layer that reads ``ctx.region_tokens_BRE``; ``None``: no attention to regions.
        mlp_ratio: hidden width of the MLP over ``embed_dims``.
        mlp: config of the MLP, a LAYERS component with the arguments of MLP.
        depth: number of blocks of the encoder; the last linear layer of each branch is scaled by it.

    Attributes:
        ends_with_norm: True if the output is normalised, so that the encoder adds no norm after the last block.
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
        mlp: dict | None = None,
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
        self.mlp = LAYERS.build(
            {"type": "MLP", **(mlp or {})},
            default_args=dict(embed_dims=embed_dims, hidden_dims=int(embed_dims * mlp_ratio), drop=drop),
        )
        self.drop_path: nn.Module = nn.Identity()
        if drop_path > 0:
            from timm.layers import DropPath  # timm takes a second to import

            self.drop_path = DropPath(drop_path)
        self.scale_residuals(depth)

    def scale_residuals(self, depth: int) -> None:
        """Scale the last linear layer of each branch for ``depth`` blocks.

        Layers are found by their name, because an attention layer may have several (AxialAttention) or none.
        """
        for name, module in self.named_modules():
            if name.split(".")[-1] in LAST_LINEARS and isinstance(module, nn.Linear):
                scale_residual_(module, depth)

    def forward(
        self, x_BNE: Tensor, ctx: TokenContext, pool_regions: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """``pool_regions`` computes region tokens (B, R, E) from the output of self-attention."""
        x_BNE = x_BNE + self.drop_path(self.attention(self.norm_attention(x_BNE), ctx))
        if self.region_attention is not None:
            if pool_regions is not None and ctx.patch_to_region_BNR1 is not None:
                ctx = ctx.with_regions(ctx.patch_to_region_BNR1, pool_regions(x_BNE))
            x_BNE = x_BNE + self.drop_path(self.region_attention(self.norm_region(x_BNE), ctx))
        return x_BNE + self.drop_path(self.mlp(self.norm_mlp(x_BNE)))
