"""Regions of voxels or cells finer than patches."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from ctvlm.models.heads.cell_features import CellFeatures
from ctvlm.registry import HEADS
from ctvlm.structures import EncoderOutput


@HEADS.register_module()
class VoxelSegmentationHead(CellFeatures):
    """Region logits of cells finer than patches; see CellFeatures.

    Cells can be as fine as voxels: scale (4, 16, 16) for patches of that size.

    Args:
        kwargs: as CellFeatures.
    """

    def __init__(self, in_dims: int, num_regions: int = 20, dims: int = 32, **kwargs) -> None:
        super().__init__(in_dims, dims, **kwargs)
        self.num_regions = num_regions
        self.classify = nn.Sequential(nn.GroupNorm(1, dims), nn.Conv3d(dims, num_regions + 1, kernel_size=1))

    def forward(self, encoded: EncoderOutput, hu_B1DHW: Tensor) -> Tensor:
        """Region logits (B, R + 1, d', h', w') on the pyramid's finest grid."""
        return self.classify(self.cells(encoded, hu_B1DHW))
