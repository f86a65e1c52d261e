"""Bring a mask onto its CT's grid in physical space."""

from __future__ import annotations

import warnings

import numpy as np

from ctvlm.volume.ct_volume import CTVolume
from ctvlm.volume.headers import describe_conflict, fits_only_alternative
from ctvlm.volume.resample import resample_to_grid

# A mask with less than this share of its volume inside the CT is reported.
MIN_OVERLAP = 0.5


class MaskMismatchError(ValueError):
    """A mask that does not lie on its CT in physical space."""


def match_mask(mask: CTVolume, ct: CTVolume, name: str = "mask") -> CTVolume | None:
    """``sample_mask`` for one mask, with a warning where it marks nothing or is mostly cut off.

    Returns:
        The mask on the CT's grid, or None where it marks nothing.

    Raises:
        MaskMismatchError: what it marks lies outside the CT.
    """
    out, kept = sample_mask(mask, ct, name)
    if out is None:
        found = "nothing of it remains on the CT's grid" if kept == 0 else "no voxel is marked"
        warnings.warn(f"{name}: {found}; taken as absent", stacklevel=2)
    elif kept < MIN_OVERLAP:
        warnings.warn(f"{name}: only {kept:.0%} of its volume lies inside the CT", stacklevel=2)
    return out


def sample_mask(mask: CTVolume, ct: CTVolume, name: str = "mask") -> tuple[CTVolume | None, float]:
    """Sample a mask's labels at the CT's voxel centres (nearest neighbour); never by index, never by resizing.

    Returns:
        The mask on the CT's grid, or None where no voxel of it is marked there; and the share of the marked volume
        that lies inside the CT (1.0 for a mask that marks nothing anywhere).

    Raises:
        MaskMismatchError: what it marks lies outside the CT, or it lies on the CT only by the form (sform or qform) of
            one of the two headers that is not used.
    """
    if mask.header is not None and ct.header is not None and fits_only_alternative(mask.header, ct.header):
        which = "CT" if ct.header.alternative is not None else "mask"
        raise MaskMismatchError(
            f"{name}: found a mask that fits its CT only by the qform of the {which}'s header, whose "
            f"{describe_conflict((ct if which == 'CT' else mask).header)}; expected one that fits by the sform. "
            "Repair the wrong header and write the mask again."
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
            f"{name}: found labels at {_extent(world)} mm, expected within the CT at {_extent(ct_world)} mm (x, y, z, "
            "RAS+); it belongs to another scan, or one of the two headers is wrong"
        )
    out = resample_to_grid(mask, ct.affine, ct.shape, mode="nearest", fill=0)
    kept = np.count_nonzero(out.array) * ct.voxel_ml / (len(marked) * mask.voxel_ml)
    return (out if kept else None), kept


def _extent(points: np.ndarray) -> str:
    return " x ".join(f"[{a:.0f}, {b:.0f}]" for a, b in zip(points.min(axis=1), points.max(axis=1), strict=True))
