"""Overlap of patches and regions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Anatomy:
    """Exact overlap of patches and region maps, independent of which maps the encoder receives.

    Attributes:
        shares_BNR1: share of each patch's known voxels in each region (B, N, R + 1); column 0 is background.
        known_BN: share of each patch's voxels whose region is known (B, N); 0 for a case without a region map.
    """

    shares_BNR1: Tensor
    known_BN: Tensor
