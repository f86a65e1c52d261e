"""From any file's axes to RAS+ (z, y, x) on an orthogonal grid."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy import ndimage

from ctvlm.volume.ct_volume import CTVolume

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


def to_ras(array: np.ndarray, affine: np.ndarray, labels: bool = False, fill: float = -1024.0) -> CTVolume:
    """Turn an array in file order (axes as the affine's columns) into a CTVolume.

    Axes are permuted and flipped to the closest RAS+; voxels are not interpolated, an oblique affine stays
    oblique. A sheared grid (gantry tilt) is resampled to an orthogonal one, linearly, or with nearest
    neighbour for ``labels``; what no voxel covers is ``fill``.
    """
    orientation = nib.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(orientation, array.shape)
    array = nib.apply_orientation(array, orientation)
    straightened = 0.0
    if (shear := shear_of(affine)) > SHEAR_TOLERANCE:
        array, affine = _unshear(array, affine, labels, fill)
        straightened = float(np.degrees(np.arcsin(shear)))
    return CTVolume(np.ascontiguousarray(array.transpose(2, 1, 0)), affine, straightened)


def _unshear(array: np.ndarray, affine: np.ndarray, labels: bool, fill: float) -> tuple[np.ndarray, np.ndarray]:
    """Resample to a grid that keeps the two axes closest to a right angle (the slice plane) and squares the third."""
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
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in array.shape], indexing="ij")).reshape(3, -1)
    along = axes.T @ (columns @ corners + affine[:3, 3:])
    low, high = along.min(axis=1), along.max(axis=1)
    shape = tuple(int(n) for n in np.floor((high - low) / sizes + 1e-6) + 1)
    new_affine = np.eye(4)
    new_affine[:3, :3] = axes * sizes
    new_affine[:3, 3] = axes @ low
    to_old = np.linalg.inv(affine) @ new_affine
    out = ndimage.affine_transform(
        array if labels else array.astype(np.float32),
        to_old[:3, :3],
        to_old[:3, 3],
        output_shape=shape,
        order=0 if labels else 1,
        cval=0 if labels else fill,
    )
    return out, new_affine
