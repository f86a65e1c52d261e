"""Where the regions lie on a batch's patch grid."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Anatomy:
    """The exact overlap of patches with the region maps of a batch, whatever the encoder was shown of them.

    Attributes:
        shares_BNR1: share of each patch's known voxels in each region (B, N, R + 1), column 0 background.
        known_BN: share of each patch's voxels whose region is known (B, N); 0 everywhere for a case without a map.
    """

    shares_BNR1: Tensor
    known_BN: Tensor
