"""A transformer block with Add & Norm, the spec's literal form."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ctvlm.models.layers.transformer_block import ThreeDTransformerBlock
from ctvlm.registry import LAYERS
from ctvlm.structures.token_context import TokenContext


@LAYERS.register_module()
class PostNormBlock(ThreeDTransformerBlock):
    """Self-attention, attention to regions (optional), MLP; after each, ``x = Norm(x + f(x))``.

    Arguments as ThreeDTransformerBlock, the pre-norm form. Residual branches are not scaled, because the norms keep
    the variance at 1.
    """

    ends_with_norm = True
    norm_eps = 1e-5

    def scale_residuals(self, depth: int) -> None:
        """No scaling."""

    def forward(
        self, x_BNE: Tensor, ctx: TokenContext, pool_regions: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        x_BNE = self.norm_attention(x_BNE + self.drop_path(self.attention(x_BNE, ctx)))
        if self.region_attention is not None:
            if pool_regions is not None and ctx.patch_to_region_BNR1 is not None:
                ctx = ctx.with_regions(ctx.patch_to_region_BNR1, pool_regions(x_BNE))
            x_BNE = self.norm_region(x_BNE + self.drop_path(self.region_attention(x_BNE, ctx)))
        return self.norm_mlp(x_BNE + self.drop_path(self.mlp(x_BNE)))
