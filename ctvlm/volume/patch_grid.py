"""Maps on an encoder's patch grid: geometry, and resampling to other grids."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ctvlm.volume.ct_volume import CTVolume
from ctvlm.volume.grids import BORDER_TOLERANCE
from ctvlm.volume.resample import Shape, resample_to_grid


def patch_grid_affine(affine: np.ndarray, shape: Shape, grid: Shape) -> np.ndarray:
    """Affine of the patch grid (d, h, w) of a volume (D, H, W): patch index (x, y, z) to patch centre in mm.

    Raises:
        ValueError: the grid does not divide the shape.
    """
    if any(n % g for n, g in zip(shape, grid, strict=True)):
        raise ValueError(f"patch grid {tuple(grid)} does not divide the volume shape {tuple(shape)}")
    size = np.array([n // g for n, g in zip(shape, grid)])[::-1]
    out = np.array(affine, dtype=np.float64)
    out[:3, 3] += out[:3, :3] @ ((size - 1) / 2)
    out[:3, :3] *= size
    return out


def patches_to_grid(
    patches: CTVolume, affine: np.ndarray, shape: Shape, mode: Literal["linear", "nearest"] = "linear"
) -> CTVolume:
    """Resample a patch map to any other grid, with 0 outside the patches.

    ``linear`` interpolates between patch centres and is constant in the outer half of the border patches; ``nearest``
    is for labels.
    """
    to_patch = np.linalg.inv(patches.affine) @ affine
    parallel = np.allclose(to_patch[:3, :3], np.diag(np.diag(to_patch[:3, :3])), atol=1e-6)
    if mode == "nearest" or not parallel:
        return resample_to_grid(patches, affine, shape, mode)
    return CTVolume(_by_axes(patches.array, np.diag(to_patch)[2::-1], to_patch[2::-1, 3], shape), affine)


def _by_axes(array: np.ndarray, scale: np.ndarray, offset: np.ndarray, shape: Shape) -> np.ndarray:
    """Linear interpolation for grids with parallel axes, one axis at a time: ten times faster than all at once."""
    out = array.astype(np.float32)
    for axis, (size, count) in enumerate(zip(array.shape, shape)):
        position = offset[axis] + scale[axis] * np.arange(count)
        covered = (position >= -0.5 - BORDER_TOLERANCE) & (position < size - 0.5 - BORDER_TOLERANCE)
        distances = np.clip(position, 0, size - 1)[:, None] - np.arange(size)
        weights = np.clip(1 - np.abs(distances), 0, None) * covered[:, None]
        out = np.moveaxis(np.tensordot(weights.astype(np.float32), out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out)


def peak_mm(volume: CTVolume) -> tuple[float, float, float]:
    """Voxel centre of the largest value in mm (x, y, z), RAS+."""
    z, y, x = np.unravel_index(int(np.argmax(volume.array)), volume.shape)
    x_mm, y_mm, z_mm = (float(value) for value in (volume.affine @ (x, y, z, 1))[:3])
    return x_mm, y_mm, z_mm
