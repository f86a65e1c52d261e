"""SPECTRE's local vision transformer (package spectre-fm) as a tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctvlm.models.backbones import InputConvention, Tower
from ctvlm.registry import TOWERS
from ctvlm.utils import MissingPackageError


@TOWERS.register_module()
class SpectreTower(Tower):
    """The backbone of SPECTRE: each crop of 128 x 128 x 64 voxels (x, y, z) is encoded on its own.

    The features are the patch tokens after the last norm; the class token of each crop is dropped. The defaults are
    SPECTRE-Large. The published file with the names of this backbone is the one of the backbone, not of the combiner.

    Args:
        spacing: mm per voxel (x, y, z); ``None``: that of the input. The model was trained with 0.5 x 0.5 x 1 mm and
            with native spacings.
        crops_per_pass: crops that the network reads at a time.

    Raises:
        MissingPackageError: spectre-fm is not installed.
    """

    def __init__(
        self,
        embed_dims: int = 1080,
        depth: int = 24,
        num_heads: int = 12,
        img_size: tuple[int, int, int] = (128, 128, 64),
        patch_size: tuple[int, int, int] = (16, 16, 8),
        spacing: tuple[float, float, float] | None = (0.5, 0.5, 1.0),
        crops_per_pass: int = 4,
    ) -> None:
        try:
            from spectre.models import VisionTransformer  # slow to import, and optional
            from spectre.presets import BACKBONE_KWARGS
        except ImportError as error:
            raise MissingPackageError("SpectreTower needs spectre-fm: pip install 'ctvlm[towers]'") from error
        net = VisionTransformer(
            img_size=tuple(img_size),
            patch_size=tuple(patch_size),
            embed_dim=embed_dims,
            depth=depth,
            num_heads=num_heads,
            norm_layer=nn.LayerNorm,
            **BACKBONE_KWARGS,
        )
        convention = InputConvention(
            "RAS", spacing, hu=(-1000.0, 1000.0), values=(0.0, 1.0), multiple=tuple(img_size), window_first=True
        )
        super().__init__(net, embed_dims, convention, tuple(patch_size))
        self.crop = tuple(img_size)
        self.crops_per_pass = crops_per_pass

    def forward(self, volume_BCXYZ: Tensor) -> Tensor:
        batch = len(volume_BCXYZ)
        counts = [size // crop for size, crop in zip(volume_BCXYZ.shape[2:], self.crop)]
        cells = [crop // stride for crop, stride in zip(self.crop, self.stride)]
        (nx, ny, nz), (cx, cy, cz) = counts, self.crop
        crops = volume_BCXYZ.reshape(batch, -1, nx, cx, ny, cy, nz, cz).permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(0, 3)
        parts = [self.net(part)[:, 1:] for part in crops.split(self.crops_per_pass)]
        features = torch.cat(parts).reshape(batch, *counts, *cells, self.width)
        features = features.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return features.reshape(batch, self.width, *(n * c for n, c in zip(counts, cells)))

    def stages(self) -> Sequence[nn.Module]:
        blocks = list(self.net.blocks)
        return [*blocks[:-1], nn.ModuleList([blocks[-1], self.net.norm])]
