"""Regions on a batch's patch grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Anatomy:
    """Exact overlap of patches with the region maps of a batch.

    Attributes:
        shares_BNR1: share of each patch's known voxels in each region (B, N, R + 1), column 0 background.
        known_BN: share of each patch's voxels whose region is known (B, N); 0 everywhere for a case without a map.
    """

    shares_BNR1: Tensor
    known_BN: Tensor

    def without(self, hidden_B: Tensor) -> Anatomy:
        """A copy in which the maps of some cases are unknown: background with a known share of 0."""
        background_R1 = torch.zeros_like(self.shares_BNR1[0, 0])
        background_R1[0] = 1
        return Anatomy(
            torch.where(hidden_B[:, None, None], background_R1, self.shares_BNR1),
            self.known_BN.masked_fill(hidden_B[:, None], 0),
        )
