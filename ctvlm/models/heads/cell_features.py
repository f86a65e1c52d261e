"""Features of cells finer than patches, from the encoder's levels and the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.registry import NECKS
from ctvlm.structures import EncoderOutput
from ctvlm.volume.windows import apply_windows, resolve_window


class CellFeatures(nn.Module):
    """Pyramid features and the image to features of cells (B, dims, d', h', w').

    The maps of a FeaturePyramid3D are summed at the finest scale (as in Panoptic FPN, Kirillov et al., 2019) and give
    the coarse location. Mean, minimum and maximum intensity of each cell, through a residual 3x3x3 convolution, give
    the boundary.

    Args:
        pyramid: config of the neck. A cell is a patch divided by the first, finest scale.
        dims: width of the maps and of the convolutions.
        windows: intensity windows, names or (centre, width) in HU.
    """

    def __init__(
        self,
        in_dims: int,
        dims: int = 32,
        pyramid: dict | None = None,
        windows: Sequence[str | tuple[float, float]] = ("lung", "soft_tissue", "bone"),
    ) -> None:
        super().__init__()
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

    def cells(self, encoded: EncoderOutput, hu_B1DHW: Tensor) -> Tensor:
        """Features on the pyramid's finest grid (B, dims, d', h', w')."""
        x_BEdhw, *coarser = self.pyramid(encoded)
        for map_BEdhw in coarser:
            size = x_BEdhw.shape[2:]
            x_BEdhw = x_BEdhw + F.interpolate(map_BEdhw, size, mode="trilinear", align_corners=False)
        x_BEdhw = x_BEdhw + self.stem(self._intensities(hu_B1DHW, x_BEdhw.shape[2:]).to(x_BEdhw))
        return x_BEdhw + self.refine(x_BEdhw)

    def _intensities(self, hu_B1DHW: Tensor, size: Sequence[int]) -> Tensor:
        """Mean, largest and smallest value of each cell in each window (B, 3 C, d', h', w')."""
        grid = (size[0], size[1], size[2])
        parts = []
        for hu_1DHW in hu_B1DHW.float():  # windowed case by case: C float channels of a batch of CTs would be large
            mean = F.adaptive_avg_pool3d(apply_windows(hu_1DHW, self.windows)[0], grid)
            # Windows are monotone, so that the extremes can be taken before them.
            high, low = (sign * F.adaptive_max_pool3d(sign * hu_1DHW, grid) for sign in (1, -1))
            parts.append(torch.cat([mean, *(apply_windows(x, self.windows)[0] for x in (high, low))]))
        return torch.stack(parts)
