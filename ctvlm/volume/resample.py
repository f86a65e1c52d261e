"""Resampling, cropping and padding of volumes with their affines. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from ctvlm.volume.ct_volume import CTVolume
from ctvlm.volume.grids import max_displacement, sample_grid

Mode = Literal["linear", "nearest", "majority"]
Shape = tuple[int, int, int]
BODY_HU = -500.0


def resample_to_shape(volume: CTVolume, shape: Sequence[int], mode: Mode = "linear") -> CTVolume:
    """Resample the same field of view to ``shape`` (D, H, W).

    Args:
        mode: ``linear`` interpolates, and averages over each new voxel if the grid becomes coarser (antialias).
            ``nearest`` is for labels. ``majority`` is for labels too and uses the most frequent label of each new
            voxel; a label that is nowhere most frequent keeps the voxel with its largest share.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape: found {tuple(shape)}; expected three positive numbers (D, H, W).")
    shape = (int(shape[0]), int(shape[1]), int(shape[2]))
    if shape == volume.shape:
        return volume
    affine = resized_affine(volume, shape)
    if mode == "linear":
        return CTVolume(_antialiased(volume.array, shape), affine)
    if mode == "nearest":
        return CTVolume(_nearest(volume.array, shape), affine)
    if mode == "majority":
        return CTVolume(_majority(volume.array, shape), affine)
    raise ValueError(f"mode: found {mode!r}; expected linear, nearest or majority.")


def resample_to_spacing(volume: CTVolume, spacing: Sequence[float], mode: Mode = "linear") -> CTVolume:
    """Resample to ``spacing`` in mm (z, y, x), rounded to an integer number of voxels in the same field of view."""
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(f"spacing: found {tuple(spacing)}; expected three positive numbers in mm (z, y, x).")
    shape = [max(1, round(n * old / new)) for n, old, new in zip(volume.shape, volume.spacing, spacing, strict=True)]
    return resample_to_shape(volume, shape, mode)


def resample_to_grid(
    volume: CTVolume, affine: np.ndarray, shape: Shape, mode: Literal["linear", "nearest"] = "linear", fill: float = 0
) -> CTVolume:
    """Sample a volume at the voxel centres of any other grid, with ``fill`` outside the volume.

    Borders: see ``sample_grid``.
    """
    to_old = np.linalg.inv(volume.affine) @ affine
    # Compare displacements instead of matrix entries: 0.1% of the spacing is half a voxel after 512 voxels.
    if tuple(shape) == volume.shape and max_displacement(to_old, shape[::-1]) < 0.01:
        return CTVolume(volume.array, affine)
    # Axis order of the array: z, y, x.
    to_old[:3, :3], to_old[:3, 3] = to_old[:3, :3][::-1, ::-1].copy(), to_old[:3, 3][::-1].copy()
    return CTVolume(sample_grid(volume.array, to_old, shape, mode, fill), affine)


def crop(volume: CTVolume, box: Sequence[slice]) -> CTVolume:
    """Crop a volume to a box of index slices (z, y, x) with step 1."""
    starts = [s.indices(n)[0] for s, n in zip(box, volume.shape, strict=True)]
    array = volume.array[tuple(box)]
    if 0 in array.shape:
        raise ValueError(f"box: found {tuple(box)}; expected voxels of a volume of shape {volume.shape}.")
    return CTVolume(array, _shifted_affine(volume.affine, starts))


def crop_or_pad(volume: CTVolume, shape: Shape, fill: float = 0) -> CTVolume:
    """Crop or pad around the centre to exactly ``shape`` (D, H, W)."""
    starts = [(n - m) // 2 for n, m in zip(volume.shape, shape, strict=True)]
    kept = [slice(max(s, 0), max(s, 0) + min(n, m)) for s, n, m in zip(starts, volume.shape, shape, strict=True)]
    array = volume.array[tuple(kept)]
    pad = [(max(-s, 0), m - k - max(-s, 0)) for s, m, k in zip(starts, shape, array.shape, strict=True)]
    return CTVolume(np.pad(array, pad, constant_values=fill), _shifted_affine(volume.affine, starts))


def body_box(volume: CTVolume, margin_mm: float = 10.0) -> tuple[slice, ...]:
    """Index box (z, y, x) of the patient: the largest component denser than -500 HU, plus a margin.

    An opening of the mask separates the table and clothes, which are smaller components. Without any denser
    voxel the box is the whole volume.
    """
    step = [max(1, round(4.0 / s)) for s in volume.spacing]
    coarse = volume.array[:: step[0], :: step[1], :: step[2]] > BODY_HU
    opened = ndimage.binary_opening(coarse, np.ones((1, 3, 3), bool))
    labels, count = ndimage.label(opened if opened.any() else coarse)
    if count == 0:
        return tuple(slice(0, n) for n in volume.shape)
    sizes = np.bincount(labels.ravel())[1:]
    box = ndimage.find_objects(labels, max_label=count)[int(sizes.argmax())]
    margin = [round(margin_mm / s) for s in volume.spacing]
    return tuple(
        slice(max(0, b.start * k - m), min(n, b.stop * k + m))
        for b, k, m, n in zip(box, step, margin, volume.shape, strict=True)
    )


def _shifted_affine(affine: np.ndarray, starts: Sequence[int]) -> np.ndarray:
    out = affine.copy()
    out[:3, 3] += affine[:3, :3] @ np.array(starts[::-1], dtype=float)
    return out


def resized_affine(volume: CTVolume, shape: Shape) -> np.ndarray:
    """Affine of the same field of view with ``shape`` voxels: the first centre moves by half the change in size."""
    scale = np.array([old / new for old, new in zip(volume.shape, shape, strict=True)])[::-1]
    out = volume.affine.copy()
    out[:3, 3] += volume.affine[:3, :3] @ ((scale - 1) / 2)
    out[:3, :3] *= scale
    return out


def _antialiased(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Separable triangle filter, in-plane and then along z, because torch antialiases in 2D only."""
    depth, (height, width) = array.shape[0], shape[1:]
    same_plane = array.shape[1:] == (height, width)
    out = torch.from_numpy(array.astype(np.float32)) if same_plane else torch.empty((depth, height, width))
    # In chunks of slices: a float copy of a 512x512x1000 scan requires 1 GB.
    for start in range(0, 0 if same_plane else depth, 32):
        part = torch.from_numpy(array[start : start + 32].astype(np.float32))[:, None]
        out[start : start + 32] = F.interpolate(part, (height, width), mode="bilinear", antialias=True)[:, 0]
    if shape[0] != depth:
        flat = out.reshape(1, 1, depth, height * width)
        out = F.interpolate(flat, (shape[0], height * width), mode="bilinear", antialias=True).reshape(shape)
    if array.dtype.kind in "iu":
        return out.round_().numpy().astype(array.dtype)
    return out.numpy()


def _nearest(array: np.ndarray, shape: Shape) -> np.ndarray:
    index = [((np.arange(m) + 0.5) * n / m).astype(np.int64) for n, m in zip(array.shape, shape, strict=True)]
    return array[np.ix_(*index)]


def _majority(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Most frequent label of each new voxel, from three samples per axis and voxel; more samples change little."""
    full = array
    depth, height, width = (min(n, 3 * m) for n, m in zip(array.shape, shape, strict=True))
    array = _nearest(array, (depth, height, width))
    best = np.full(shape, 1e-3, dtype=np.float32)
    out = np.zeros(shape, dtype=array.dtype)
    strongest: dict[int, tuple[int, ...]] = {}
    for label in np.unique(full):
        share = _antialiased((array == label).astype(np.float32), shape)
        larger = share > best
        out[larger], best[larger] = label, share[larger]
        strongest[label] = tuple(int(i) for i in np.unravel_index(share.argmax(), shape))
    for label in set(strongest) - set(np.unique(out)):
        index = strongest[label]
        if label not in array:
            centre = np.argwhere(full == label).mean(axis=0)
            index = tuple(int((c + 0.5) * m / n) for c, n, m in zip(centre, full.shape, shape, strict=True))
        out[index] = label
    return out
