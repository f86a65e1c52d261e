"""From any file's axes to RAS+ (z, y, x) on an orthogonal grid."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from ctvlm.volume.ct_volume import CTVolume
from ctvlm.volume.grids import BORDER_TOLERANCE, corners, sample_grid

# Cosine between two grid axes above which a grid counts as sheared: 1 mm over a 500 mm wide scan.
SHEAR_TOLERANCE = 2e-3


def affine_from_axes(axes: str, spacing: tuple[float, float, float]) -> np.ndarray:
    """Affine of an array from where its axes grow to ("LPS") and its spacing in mm, in the array's own axis order."""
    directions = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    if len(axes) != 3 or sorted(directions.get(c, (9, 0))[0] for c in axes.upper()) != [0, 1, 2]:
        raise ValueError(
            f"axes must be three letters, one of R/L, one of A/P, one of S/I, such as 'LPS'; found {axes!r}"
        )
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, code in enumerate(axes.upper()):
        row, sign = directions[code]
        affine[row, column] = sign * spacing[column]
    return affine


def shear_of(affine: np.ndarray) -> float:
    """Largest cosine between two different grid axes; 0 for an orthogonal grid."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(unit.T @ unit - np.eye(3)).max())


def is_sheared(affine: np.ndarray) -> bool:
    """Whether two axes of the grid are not at a right angle, as in a scan with a tilted gantry."""
    return shear_of(affine) > SHEAR_TOLERANCE


def to_ras(array: np.ndarray, affine: np.ndarray, labels: bool = False, fill: float = -1024.0) -> CTVolume:
    """Turn an array in file order (axes as the affine's columns) into a CTVolume.

    Axes are permuted and flipped to the closest RAS+; voxels are not interpolated, an oblique affine stays
    oblique. A sheared grid is straightened, see ``straighten``.
    """
    orientation = nib.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(orientation, array.shape)
    straightened = float(np.degrees(np.arcsin(shear_of(affine)))) if is_sheared(affine) else 0.0
    array, affine = straighten(nib.apply_orientation(array, orientation), affine, labels, fill)
    return CTVolume(np.ascontiguousarray(array.transpose(2, 1, 0)), affine, straightened)


def straighten(
    array: np.ndarray, affine: np.ndarray, labels: bool = False, fill: float = -1024.0
) -> tuple[np.ndarray, np.ndarray]:
    """Resample an array on a sheared grid (gantry tilt) to an orthogonal one; others are returned as they are.

    Args:
        array: (x, y, z), axes as the affine's columns.
        labels: nearest neighbour instead of linear interpolation, and 0 instead of ``fill``.
        fill: value of voxels that the array does not cover.

    Returns:
        Array of the same dtype and its affine, see ``orthogonal_grid``.
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
    """The orthogonal grid that covers a sheared one; shape and affine, (x, y, z).

    It keeps the two axes closest to a right angle (the slice plane) and squares the third. The volume of a voxel
    stays the same, and each voxel of the old grid covers the centre of exactly one voxel of the new one.
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
    # Distance between voxels along the new axes; for a tilted gantry this is the true gap between slices.
    sizes = np.abs(np.einsum("ij,ij->j", axes, columns))
    along = axes.T @ (affine @ corners(shape))[:3]
    low, high = along.min(axis=1), along.max(axis=1)
    # Half of the last voxel lies beyond its centre: the last new centre is the last one that a voxel covers.
    new_shape = tuple(int(n) for n in np.ceil((high - low) / sizes + 0.5 - 2 * BORDER_TOLERANCE))
    straight = np.eye(4)
    straight[:3, :3] = axes * sizes
    straight[:3, 3] = axes @ low
    return new_shape, straight
