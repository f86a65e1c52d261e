"""HLIP's vision transformer with attention within slices and within the scan, as a tower."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ctvlm.models.backbones import InputConvention, Tower
from ctvlm.registry import TOWERS

Triple = tuple[int, int, int]
# Mean and standard deviation of ImageNet's three channels, averaged: they are applied after the window.
MEAN, STD = 0.449, 0.226


class HLIPTrunk(nn.Module):
    """A ViT whose blocks attend within each slice of patches, or within the scan (``scan_blocks``).

    Each group of patches has a class token of its own: it is copied to the slices, and averaged over them. The names
    of the weights are those below ``visual.trunk.`` of the published files. Source: arXiv 2505.21862.
    """

    spatial_posemb: Tensor

    def __init__(
        self, embed_dims: int, depth: int, num_heads: int, patch_size: Triple, grid: Triple, scan_blocks: Sequence[int]
    ) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(1, embed_dims, patch_size, patch_size)})
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dims) * 0.02)
        # Positions are not trained.
        self.register_buffer("spatial_posemb", torch.randn(1, *grid, embed_dims) * 0.02)
        self.blocks = nn.ModuleList(Block(embed_dims, num_heads, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        self.norm = norm(embed_dims)
        self.scan_blocks = frozenset(scan_blocks)

    def forward(self, volume_B1DHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the patches (B, E, d, h, w), and the class token (B, E)."""
        x_BdhwE = self.patch_embed["proj"](volume_B1DHW).permute(0, 2, 3, 4, 1)
        batch, depth, height, width, dims = x_BdhwE.shape
        x_BdhwE = x_BdhwE + self._positions((depth, height, width))
        x_BNE = x_BdhwE.flatten(1, 3)
        cls_BgE = self.cls_token.expand(batch, 1, dims)
        for index, block in enumerate(self.blocks):
            groups = 1 if index in self.scan_blocks else depth
            if cls_BgE.shape[1] != groups:
                cls_BgE = cls_BgE.mean(dim=1, keepdim=True).expand(batch, groups, dims)
            grouped = torch.cat([cls_BgE.reshape(-1, 1, dims), x_BNE.reshape(batch * groups, -1, dims)], dim=1)
            grouped = block(grouped)
            cls_BgE, x_BNE = grouped[:, 0].view(batch, groups, dims), grouped[:, 1:].reshape(batch, -1, dims)
        patches = self.norm(x_BNE).view(batch, depth, height, width, dims).permute(0, 4, 1, 2, 3)
        return patches, self.norm(cls_BgE.mean(dim=1))

    def _positions(self, grid: Triple) -> Tensor:
        """Positions of a grid (1, d, h, w, E), interpolated from the grid of the training."""
        if tuple(self.spatial_posemb.shape[1:4]) == grid:
            return self.spatial_posemb
        table = self.spatial_posemb.permute(0, 4, 1, 2, 3)
        return F.interpolate(table, size=grid, mode="trilinear").permute(0, 2, 3, 4, 1)


@TOWERS.register_module()
class HLIPTower(Tower):
    """The patch tokens of HLIP's vision transformer for chest CT, after the last norm; class tokens are dropped.

    The key prefix is ``module.visual.trunk.`` in the published file, that of the head ``module.visual.head.proj.``. The
    defaults are the ViT-B of CT-RATE.

    Args:
        scan_blocks: indices of the blocks that attend within the scan; the others attend within slices of patches.
        img_size: voxels (z, y, x) of the training; smaller volumes are padded to it.
        spacing: mm per voxel (z, y, x); ``None``: that of the input.
        out_dims: width of the published embedding of a volume (512), a projection of the class token; ``None``: without
            its head.
    """

    def __init__(
        self,
        embed_dims: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        scan_blocks: Sequence[int] = (2, 5, 8, 11),
        img_size: Triple = (112, 336, 336),
        patch_size: Triple = (8, 24, 24),
        spacing: tuple[float, float, float] | None = (3.0, 1.0, 1.0),
        out_dims: int | None = None,
    ) -> None:
        d, h, w = (size // patch for size, patch in zip(img_size, patch_size, strict=True))
        net = HLIPTrunk(embed_dims, depth, num_heads, tuple(patch_size), (d, h, w), scan_blocks)
        convention = InputConvention(
            "SPL",
            spacing,
            hu=(-1150.0, 350.0),
            values=(-MEAN / STD, (1 - MEAN) / STD),
            multiple=tuple(patch_size),
            min_size=tuple(img_size),
            keeps="border",
        )
        head = None if out_dims is None else nn.Linear(embed_dims, out_dims, bias=False)
        super().__init__(net, embed_dims, convention, tuple(patch_size), head=head)

    def forward(self, volume_BCXYZ: Tensor) -> Tensor:
        return self.net(volume_BCXYZ)[0]

    def embed(self, volume_BCXYZ: Tensor) -> Tensor:
        return self.published_head()(self.net(volume_BCXYZ)[1])

    def stages(self) -> Sequence[nn.Module]:
        blocks = list(self.net.blocks)
        return [*blocks[:-1], nn.ModuleList([blocks[-1], self.net.norm])]

    def from_published(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A model of several scans also has a position of each scan. A CT is the first one."""
        scans = weights.get("sequential_posemb")
        if scans is None or "spatial_posemb" not in weights:
            return weights
        others = {name: value for name, value in weights.items() if name != "sequential_posemb"}
        return others | {"spatial_posemb": weights["spatial_posemb"] + scans[:, :1, None, None]}
