"""Reorientation to RAS+ (z, y, x) and resampling of sheared grids."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np

from ctvlm.volume.ct_volume import CTVolume
from ctvlm.volume.grids import BORDER_TOLERANCE, corners, sample_grid
from ctvlm.volume.intensity import AIR

# Cosine between two grid axes above which a grid counts as sheared: 1 mm over a 500 mm wide scan.
SHEAR_TOLERANCE = 2e-3


def affine_from_axes(axes: str, spacing: Sequence[float] | np.ndarray) -> np.ndarray:
    """Affine from the directions of an array's axes ("LPS") and their spacing in mm, in the array's axis order."""
    directions = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    if len(axes) != 3 or sorted(directions.get(c, (9, 0))[0] for c in axes.upper()) != [0, 1, 2]:
        raise ValueError(
            f"axes: found {axes!r}; expected three letters, one of R/L, one of A/P and one of S/I, such as 'LPS'."
        )
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, code in enumerate(axes.upper()):
        row, sign = directions[code]
        affine[row, column] = sign * spacing[column]
    return affine


def shear_of(affine: np.ndarray) -> float:
    """Largest cosine between two grid axes; 0 for an orthogonal grid."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(unit.T @ unit - np.eye(3)).max())


def is_sheared(affine: np.ndarray) -> bool:
    """Whether the axes of the grid are not orthogonal, as in a scan with a tilted gantry."""
    return shear_of(affine) > SHEAR_TOLERANCE


def to_ras(array: np.ndarray, affine: np.ndarray, labels: bool = False) -> CTVolume:
    """Convert an array in file order (axes as the affine's columns) to a CTVolume.

    Axes are permuted and flipped to the closest RAS+ orientation, without interpolation: an oblique affine stays
    oblique. A sheared grid is resampled, see ``straighten``.
    """
    orientation = nib.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(orientation, array.shape)
    shear_degrees = float(np.degrees(np.arcsin(shear_of(affine)))) if is_sheared(affine) else 0.0
    array, affine = straighten(nib.apply_orientation(array, orientation), affine, labels)
    return CTVolume(np.ascontiguousarray(array.transpose(2, 1, 0)), affine, shear_degrees)


def straighten(
    array: np.ndarray, affine: np.ndarray, labels: bool = False, fill: float = AIR
) -> tuple[np.ndarray, np.ndarray]:
    """Resample an array on a sheared grid (gantry tilt) to an orthogonal grid; return other arrays unchanged.

    Args:
        array: (x, y, z), axes as the affine's columns.
        labels: use nearest neighbour instead of linear interpolation, and 0 instead of ``fill``.
        fill: value of voxels that the array does not cover.

    Returns:
        Array of the same dtype, and its affine (see ``orthogonal_grid``).
    """
    if not is_sheared(affine):
        return array, affine
    shape, straight = orthogonal_grid(array.shape, affine)
    to_array = np.linalg.inv(affine) @ straight
    if labels:
        return sample_grid(array, to_array, shape, "nearest", fill=0), straight
    out = sample_grid(array, to_array, shape, "linear", fill)
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        out = np.clip(np.rint(out, out=out), limits.min, limits.max, out=out).astype(array.dtype)
    return out, straight


def orthogonal_grid(shape: tuple[int, int, int], affine: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray]:
    """Orthogonal grid that covers a sheared grid: shape and affine, (x, y, z).

    The two axes closest to a right angle (the slice plane) are kept, and the third becomes orthogonal to them. The
    voxel volume stays the same, and each voxel of the old grid covers the centre of exactly one new voxel.
    """
    columns = affine[:3, :3]
    unit = columns / np.linalg.norm(columns, axis=0)
    cosines = np.abs(unit.T @ unit)
    first, second, third = min(((0, 1, 2), (0, 2, 1), (1, 2, 0)), key=lambda p: cosines[p[0], p[1]])
    axes = np.zeros((3, 3))
    axes[:, first] = unit[:, first]
    across = unit[:, second] - (unit[:, second] @ unit[:, first]) * unit[:, first]
    axes[:, second] = across / np.linalg.norm(across)
    normal = np.cross(axes[:, first], axes[:, second])
    axes[:, third] = normal * np.sign(normal @ unit[:, third])
    # Distance between voxels along the new axes; for a tilted gantry the true distance between slices.
    sizes = np.abs(np.einsum("ij,ij->j", axes, columns))
    along = axes.T @ (affine @ corners(shape))[:3]
    low, high = along.min(axis=1), along.max(axis=1)
    # Half of the last voxel is beyond its centre: the last new centre is the last one that a voxel covers.
    nx, ny, nz = (int(n) for n in np.ceil((high - low) / sizes + 0.5 - 2 * BORDER_TOLERANCE))
    straight = np.eye(4)
    straight[:3, :3] = axes * sizes
    straight[:3, 3] = axes @ low
    return (nx, ny, nz), straight
