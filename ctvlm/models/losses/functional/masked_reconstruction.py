"""Predicted voxels of masked patches."""

from __future__ import annotations

import torch
from torch import Tensor

# Voxels are clipped to this range (HU). Metal would dominate the error of its patch.
HU_RANGE = (-1000.0, 1000.0)
# Added to the standard deviation (HU) of a patch, so that noise of homogeneous patches stays small.
NOISE_HU = 10.0


def patch_voxels(hu_B1DHW: Tensor, patch_size: tuple[int, int, int]) -> Tensor:
    """Voxels of each patch (B, N, V), patches and voxels z-major."""
    (pd, ph, pw), (d, h, w) = patch_size, [s // p for s, p in zip(hu_B1DHW.shape[2:], patch_size)]
    voxels = hu_B1DHW.reshape(len(hu_B1DHW), d, pd, h, ph, w, pw)
    return voxels.permute(0, 1, 3, 5, 2, 4, 6).reshape(len(hu_B1DHW), d * h * w, pd * ph * pw)


def normalized_patches(voxels_MV: Tensor) -> Tensor:
    """Voxels in HU with mean 0 and a standard deviation of nearly 1 in each patch (He et al., 2022)."""
    voxels_MV = voxels_MV.float().clamp(*HU_RANGE)
    std_M1 = voxels_MV.std(dim=-1, correction=0, keepdim=True)
    return (voxels_MV - voxels_MV.mean(dim=-1, keepdim=True)) / (std_M1 + NOISE_HU)


def masked_reconstruction(predicted_MV: Tensor, target_MV: Tensor) -> Tensor:
    """Mean squared error of each patch, as [sum over patches, number of patches] (2)."""
    error_M = (predicted_MV - target_MV).square().mean(dim=-1)
    return torch.stack([error_M.sum(), error_M.new_full((), len(error_M))])
