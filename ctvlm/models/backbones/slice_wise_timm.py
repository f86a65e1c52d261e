"""A 2D network for each slice and pooling over z, as a baseline."""

from __future__ import annotations

from typing import Any

import torch.nn as nn
from torch import Tensor

from ctvlm.models.backbones.base import VisionEncoder
from ctvlm.models.layers import grid_of, init_vit
from ctvlm.models.layers.patch_embedding import as_grid
from ctvlm.registry import BACKBONES
from ctvlm.structures import Anatomy, EncoderOutput, TokenContext


@BACKBONES.register_module()
class SliceWiseTimm(VisionEncoder):
    """A timm network with feature maps, applied to each slice; ``slices_per_token`` slices are averaged.

    The patch grid is the network's last feature map. Regions are pooled at the end; no block attends to them.

    Args:
        model_name: timm model that supports ``features_only``.
        pretrained: load timm's weights (needs its download or cache).
        embed_dims: width of the tokens, a projection of the network's features.
        model_kwargs: further arguments of ``timm.create_model``.
    """

    def __init__(
        self,
        model_name: str = "resnet18",
        pretrained: bool = False,
        in_channels: int = 3,
        embed_dims: int = 768,
        slices_per_token: int = 4,
        num_regions: int = 20,
        region_encoder: dict | None = None,
        normalize: dict | None = None,
        model_kwargs: dict | None = None,
    ) -> None:
        super().__init__(embed_dims, num_regions, region_encoder, in_channels, normalize)
        import timm  # imported when used: it takes a second

        self.net = timm.create_model(
            model_name,
            pretrained=pretrained,
            in_chans=in_channels,
            features_only=True,
            out_indices=(-1,),
            **(model_kwargs or {}),
        )
        info: Any = self.net.feature_info
        self.patch_size = (slices_per_token, info.reduction()[-1], info.reduction()[-1])
        self.proj = nn.Linear(info.channels()[-1], embed_dims)
        self.norm = nn.LayerNorm(embed_dims)
        self.proj.apply(init_vit)

    def forward(
        self,
        volume_BCDHW: Tensor,
        region_map_BDHW: Tensor | None = None,
        spacing_B3: Tensor | None = None,
        anatomy: Anatomy | None = None,
    ) -> EncoderOutput:
        self.check_region_map(volume_BCDHW, region_map_BDHW)
        grid = grid_of(as_grid(volume_BCDHW.shape[2:]), self.patch_size)
        batch = volume_BCDHW.shape[0]
        slices_MCHW = self.standardize(volume_BCDHW).transpose(1, 2).flatten(0, 1)
        features_Mchw = self.net(slices_MCHW)[-1]
        features_BdpcN = features_Mchw.flatten(2).view(batch, grid[0], self.patch_size[0], -1, grid[1] * grid[2])
        pooled_BNc = features_BdpcN.mean(dim=2).transpose(2, 3).flatten(1, 2)
        tokens_BNE = self.norm(self.proj(pooled_BNc))
        ctx = TokenContext.full(batch, grid, self.token_spacing(volume_BCDHW, spacing_B3, grid), anatomy=anatomy)
        encoding = self.region_encoder.assign(tokens_BNE, region_map_BDHW, ctx)
        return self.assemble(tokens_BNE, ctx, encoding, [tokens_BNE])
