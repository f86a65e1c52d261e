"""Regions of voxels or cells finer than patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.registry import HEADS, NECKS
from ctvlm.structures import EncoderOutput
from ctvlm.volume.windows import apply_windows, resolve_window


@HEADS.register_module()
class VoxelSegmentationHead(nn.Module):
    """Pyramid features and the image to region logits on cells finer than patches.

    The maps of a FeaturePyramid3D are summed at the finest scale (as in Panoptic FPN, Kirillov et al., 2019) and give
    the coarse location. Mean, minimum and maximum intensity of each cell, through a residual 3x3x3 convolution, give
    the boundary. Cells can be as fine as voxels: scale (4, 16, 16) for patches of that size.

    Args:
        pyramid: config of the neck. A cell is a patch divided by the first, finest scale.
        dims: width of the maps and of the convolutions.
        windows: intensity windows, names or (centre, width) in HU.
    """

    def __init__(
        self,
        in_dims: int,
        num_regions: int = 20,
        dims: int = 32,
        pyramid: dict | None = None,
        windows: Sequence[str | tuple[float, float]] = ("lung", "soft_tissue", "bone"),
    ) -> None:
        super().__init__()
        self.num_regions = num_regions
        self.windows: list[str | tuple[float, float]] = [resolve_window(window) for window in windows]
        self.pyramid = NECKS.build(
            pyramid or dict(type="FeaturePyramid3D", scales=((2, 4, 4), (1, 1, 1))),
            default_args=dict(in_dims=in_dims, out_dims=dims),
        )
        self.stem = nn.Conv3d(3 * len(self.windows), dims, kernel_size=1)
        self.refine = nn.Sequential(
            nn.GroupNorm(1, dims), nn.Conv3d(dims, dims, kernel_size=3, padding=1), nn.GELU(),
            nn.Conv3d(dims, dims, kernel_size=1),
        )  # fmt: skip
        self.classify = nn.Sequential(nn.GroupNorm(1, dims), nn.Conv3d(dims, num_regions + 1, kernel_size=1))

    def forward(self, encoded: EncoderOutput, hu_B1DHW: Tensor) -> Tensor:
        """Region logits (B, R + 1, d', h', w') on the pyramid's finest grid."""
        x_BEdhw, *coarser = self.pyramid(encoded)
        for map_BEdhw in coarser:
            size = x_BEdhw.shape[2:]
            x_BEdhw = x_BEdhw + F.interpolate(map_BEdhw, size, mode="trilinear", align_corners=False)
        x_BEdhw = x_BEdhw + self.stem(self._intensities(hu_B1DHW, x_BEdhw.shape[2:]).to(x_BEdhw))
        return self.classify(x_BEdhw + self.refine(x_BEdhw))

    def _intensities(self, hu_B1DHW: Tensor, size: Sequence[int]) -> Tensor:
        """Mean, largest and smallest value of each cell in each window (B, 3 C, d', h', w')."""
        parts = []
        for hu_1DHW in hu_B1DHW:  # windowed case by case: C float channels of a batch of CTs would be large
            volume_CDHW = apply_windows(hu_1DHW, self.windows)[0]
            high, low = (F.adaptive_max_pool3d(sign * volume_CDHW, tuple(size)) for sign in (1, -1))
            parts.append(torch.cat([F.adaptive_avg_pool3d(volume_CDHW, (size[0], size[1], size[2])), high, -low]))
        return torch.stack(parts)
