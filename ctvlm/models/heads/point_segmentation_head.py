"""Regions of single voxels."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.heads.cell_features import CellFeatures
from ctvlm.registry import HEADS
from ctvlm.structures import EncoderOutput
from ctvlm.volume.windows import apply_windows

CHUNK = 32768  # points at a time in inference: their neighbourhoods would need 0.6 kB per voxel


@HEADS.register_module()
class PointSegmentationHead(CellFeatures):
    """Region logits of voxels, from cell features at the voxel and the intensities around it.

    PointRend (Kirillov et al., 2020) in 3D: training classifies a sample of voxels, so that its cost does not depend
    on the resolution; inference classifies all. The neighbourhood of a voxel is 3x3x3 voxels, and 3x3x3 voxels at
    distances of 3, in each window.

    Args:
        hidden_dims: width of the classifier.
        kwargs: as CellFeatures.
    """

    offsets_K3: Tensor

    def __init__(self, in_dims: int, num_regions: int = 20, dims: int = 32, hidden_dims: int = 64, **kwargs) -> None:
        super().__init__(in_dims, dims, **kwargs)
        self.num_regions = num_regions
        offsets = [[step * i for i in cell] for step in (1, 3) for cell in product((-1, 0, 1), repeat=3)]
        self.register_buffer("offsets_K3", torch.tensor(offsets), persistent=False)
        self.from_cells = nn.Sequential(nn.LayerNorm(dims), nn.Linear(dims, hidden_dims))
        # The spacing relates distances in voxels to mm.
        self.from_intensities = nn.Linear(len(offsets) * len(self.windows) + 3, hidden_dims)
        self.classify = nn.Sequential(
            nn.GELU(), nn.Linear(hidden_dims, hidden_dims), nn.GELU(), nn.Linear(hidden_dims, num_regions + 1)
        )

    def forward(self, cells_BEdhw: Tensor, hu_B1DHW: Tensor, spacing_B3: Tensor, points_BM: Tensor) -> Tensor:
        """Region logits of points (B, M, R + 1).

        Args:
            cells_BEdhw: result of ``cells``.
            spacing_B3: of the voxels, in mm (z, y, x).
            points_BM: flat indices of voxels.
        """
        size = hu_B1DHW.shape[2:]
        _, h, w = size
        zyx_BM3 = torch.stack([points_BM // (h * w), points_BM // w % h, points_BM % w], dim=-1)
        around = self._neighbourhood(hu_B1DHW, zyx_BM3).to(cells_BEdhw)
        spacing_BM3 = spacing_B3.log().to(around, non_blocking=True)[:, None].expand(-1, points_BM.shape[1], -1)
        hidden = self.from_intensities(torch.cat([around, spacing_BM3], dim=-1))
        return self.classify(hidden + self.from_cells(_at_points(cells_BEdhw, zyx_BM3, size)))

    def region_map(self, encoded: EncoderOutput, hu_B1DHW: Tensor, spacing_B3: Tensor) -> Tensor:
        """Most likely region of each voxel (B, D, H, W), uint8."""
        cells_BEdhw = self.cells(encoded, hu_B1DHW)
        points_N = torch.arange(hu_B1DHW[0, 0].numel(), device=hu_B1DHW.device)
        labels = []
        for points_M in points_N.split(CHUNK):
            points_BM = points_M.expand(len(hu_B1DHW), -1)
            logits_BMR1 = self(cells_BEdhw, hu_B1DHW, spacing_B3, points_BM)
            labels.append(logits_BMR1.argmax(dim=-1).to(torch.uint8))
        return torch.cat(labels, dim=1).view(len(hu_B1DHW), *hu_B1DHW.shape[2:])

    def _neighbourhood(self, hu_B1DHW: Tensor, zyx_BM3: Tensor) -> Tensor:
        """Windowed intensities around each point (B, M, K C). Outside the volume, those of the nearest voxel."""
        size = hu_B1DHW.shape[2:]
        largest_3 = torch.tensor(size).to(zyx_BM3.device, non_blocking=True) - 1
        zyx_BMK3 = (zyx_BM3[:, :, None] + self.offsets_K3).clamp(min=0).minimum(largest_3)
        index_BMK = (zyx_BMK3[..., 0] * size[1] + zyx_BMK3[..., 1]) * size[2] + zyx_BMK3[..., 2]
        hu_B1MK = hu_B1DHW.flatten(1).gather(1, index_BMK.flatten(1)).view(len(index_BMK), 1, *index_BMK.shape[1:])
        windowed_BCMK = apply_windows(hu_B1MK, self.windows)[:, :, 0]
        return windowed_BCMK.permute(0, 2, 3, 1).flatten(2)


def _at_points(cells_BEdhw: Tensor, zyx_BM3: Tensor, size: torch.Size) -> Tensor:
    """Trilinear interpolation of cell features at voxel centres (B, M, E)."""
    size_3 = torch.tensor(size).to(zyx_BM3.device, non_blocking=True)
    unit_BM3 = (2 * zyx_BM3 + 1) / size_3 - 1
    # In full precision: bfloat16 would move points by up to a quarter of a voxel.
    grid_B11M3 = unit_BM3.flip(-1)[:, None, None].float()
    sampled = F.grid_sample(cells_BEdhw.float(), grid_B11M3, padding_mode="border", align_corners=False)
    return sampled[:, :, 0, 0].transpose(1, 2).to(cells_BEdhw)
