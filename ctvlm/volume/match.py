"""Resampling of a mask to the grid of its CT, in physical space."""

from __future__ import annotations

import warnings

import numpy as np

from ctvlm.utils import BadDataError
from ctvlm.volume.ct_volume import CTVolume
from ctvlm.volume.headers import describe_conflict, fits_only_alternative
from ctvlm.volume.resample import resample_to_grid

# A warning is issued for a mask with a smaller share of its volume inside the CT.
MIN_OVERLAP = 0.5


class MaskMismatchError(BadDataError):
    """A mask does not overlap its CT in physical space."""


def match_mask(mask: CTVolume, ct: CTVolume, name: str = "mask") -> CTVolume | None:
    """``sample_mask`` with a warning if the mask is empty or mostly outside the CT.

    Returns:
        The mask on the CT's grid, or None if it is empty there.

    Raises:
        MaskMismatchError: as ``sample_mask``.
    """
    out, overlap = sample_mask(mask, ct, name)
    if out is None:
        found = "no voxel remains on the CT's grid" if overlap == 0 else "no voxel is marked"
        warnings.warn(f"{name}: {found}; the mask is treated as missing", stacklevel=2)
    elif overlap < MIN_OVERLAP:
        warnings.warn(f"{name}: only {overlap:.0%} of its volume is inside the CT", stacklevel=2)
    return out


def sample_mask(mask: CTVolume, ct: CTVolume, name: str = "mask") -> tuple[CTVolume | None, float]:
    """Sample the labels of a mask at the CT's voxel centres (nearest neighbour), never by index or by resizing.

    Returns:
        The mask on the CT's grid, or None if it is empty there; and the share of the marked volume that is inside the
        CT (1.0 for an empty mask).

    Raises:
        MaskMismatchError: the marked voxels are outside the CT, or the mask fits the CT only by the unused form (sform
            or qform) of one of the two headers.
    """
    if mask.header is not None and ct.header is not None and fits_only_alternative(mask.header, ct.header):
        owner, header = ("CT", ct.header) if ct.header.alternative is not None else ("mask", mask.header)
        raise MaskMismatchError(
            f"{name}: found a mask that fits its CT only by the qform of the {owner}; expected a fit by the sform. "
            f"Repair the wrong header and write the mask again. In the header of the {owner}, "
            f"{describe_conflict(header)}"
        )
    marked = np.argwhere(mask.array)
    if not len(marked):
        return None, 1.0
    low, high = marked.min(axis=0)[::-1], marked.max(axis=0)[::-1]
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1)
    in_ct = np.linalg.inv(ct.affine) @ mask.affine @ np.vstack([corners, np.ones(8)])
    size = np.array(ct.shape[::-1])
    if (in_ct[:3].max(axis=1) < -0.5).any() or (in_ct[:3].min(axis=1) > size - 0.5).any():
        world = (mask.affine @ np.vstack([corners, np.ones(8)]))[:3]
        ct_world = (ct.affine @ np.vstack([np.array(np.meshgrid(*[(0, n) for n in size])).reshape(3, -1), np.ones(8)]))[
            :3
        ]
        raise MaskMismatchError(
            f"{name}: found labels at {_extent(world)} mm; expected a position within the CT at {_extent(ct_world)} mm "
            "(x, y, z, RAS+). The mask belongs to another scan, or one of the two headers is wrong."
        )
    out = resample_to_grid(mask, ct.affine, ct.shape, mode="nearest", fill=0)
    overlap = np.count_nonzero(out.array) * ct.voxel_ml / (len(marked) * mask.voxel_ml)
    return (out if overlap else None), overlap


def _extent(points: np.ndarray) -> str:
    return " x ".join(f"[{a:.0f}, {b:.0f}]" for a, b in zip(points.min(axis=1), points.max(axis=1), strict=True))
