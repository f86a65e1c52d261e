"""Voxel grids: comparison of two grids, and sampling of an array at the voxels of another grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

# In voxels. Sampling points on the border between two voxels have rounding errors: headers contain float32 numbers,
# DICOM contains direction cosines with six digits. Points up to this distance below a border count as on it.
BORDER_TOLERANCE = 1e-3


def corners(shape: Sequence[int]) -> np.ndarray:
    """Homogeneous indices of the eight corner voxels (4, 8), rows in the order of ``shape``."""
    points = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), dtype=np.float64).reshape(3, -1)
    return np.vstack([points, np.ones((1, 8))])


def max_displacement(to_other: np.ndarray, shape: Sequence[int]) -> float:
    """Largest change of any index under a 4x4 index transform, over a grid of ``shape``, in voxels."""
    points = corners(shape)
    return float(np.abs((to_other @ points - points)[:3]).max())


def sample_grid(
    array: np.ndarray,
    to_array: np.ndarray,
    shape: Sequence[int],
    mode: Literal["linear", "nearest"],
    fill: float,
) -> np.ndarray:
    """Sample an array at the voxels of another grid.

    A voxel covers the indices from half a voxel below its centre to half a voxel above it. ``nearest`` returns the
    value of the voxel that covers the point. ``linear`` interpolates between centres and is constant in the outer half
    of the border voxels. A point on the border between two voxels belongs to the upper voxel. Points less than
    ``BORDER_TOLERANCE`` below a border count as on it, so that rounding errors neither drop nor duplicate a plane.

    Args:
        array: three axes in any order.
        to_array: 4x4, index of the other grid to index of ``array``, both in the axis order of ``array``.
        shape: shape of the other grid.
        fill: value of points that no voxel covers.

    Returns:
        Array of ``shape``; the input's dtype for ``nearest``, float32 for ``linear``.
    """
    matrix, offset = to_array[:3, :3], to_array[:3, 3]
    if np.abs((matrix - np.diag(np.diag(matrix))) @ shape).max() < BORDER_TOLERANCE / 10:
        matrix = np.diag(matrix)  # separable: scipy is several times faster
    options = dict(matrix=matrix, output_shape=tuple(shape))
    # "constant" drops a plane that is outside by a rounding error; "grid-constant" follows the definition above.
    by_cell = dict(**options, offset=offset + BORDER_TOLERANCE, order=0, mode="grid-constant")
    if mode == "nearest":
        return ndimage.affine_transform(array, **by_cell, cval=fill)
    out = ndimage.affine_transform(array.astype(np.float32), **options, offset=offset, order=1, mode="nearest")
    reached = (to_array @ corners(shape))[:3]
    last = np.array(array.shape)[:, None] - 1
    if (reached < 0).any() or (reached > last).any():
        covered = ndimage.affine_transform(np.ones(array.shape, np.uint8), **by_cell, cval=0)
        out[covered == 0] = fill
    return out
