"""Volumes of a page: size limit, and compressed NIfTI as text."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np

from ctvlm.volume import CTVolume, patches_to_grid, resample_to_grid
from ctvlm.volume.resample import Shape, resample_to_shape

# About 11 MB in the page.
MAX_VOXELS = 8_000_000
# Range of CT scanners with 12 bits.
HU_RANGE = (-1024, 3071)
# Level 6 takes four times as long as level 1, and saves 2% of a CT.
LEVEL = 1
# Spacing of heat maps, and their largest size.
HEAT_MM, MAX_HEAT_VOXELS = 4.0, 400_000


def limited_shape(shape: Shape, spacing: tuple[float, float, float], max_voxels: int = MAX_VOXELS) -> Shape:
    """Shape of at most about ``max_voxels`` for the same field of view: the axes with the smallest spacing shrink."""
    if np.prod(shape, dtype=np.int64) <= max_voxels:
        return shape
    sizes, current = np.array(shape), np.array(spacing)
    low, high = float(current.min()), float((sizes * current).max())
    for _ in range(50):
        middle = (low + high) / 2
        fits = np.prod(sizes * current / np.maximum(current, middle)) <= max_voxels
        low, high = (low, middle) if fits else (middle, high)
    depth, height, width = (max(2, int(n)) for n in sizes * current / np.maximum(current, high))
    return depth, height, width


def page_ct(ct: CTVolume, max_voxels: int = MAX_VOXELS) -> CTVolume:
    """The CT as int16, resampled if it has more voxels than ``max_voxels``."""
    smaller = resample_to_shape(ct, limited_shape(ct.shape, ct.spacing, max_voxels))
    return CTVolume(np.rint(np.clip(smaller.array, *HU_RANGE)).astype(np.int16), smaller.affine)


def on_grid_of(labels: CTVolume, ct: CTVolume) -> CTVolume:
    """Labels (uint8) on the voxels of a CT: nearest neighbour in physical space."""
    moved = resample_to_grid(labels, ct.affine, ct.shape, "nearest")
    return moved.with_array(moved.array.astype(np.uint8))


def page_heat(heat: CTVolume) -> CTVolume:
    """A heat map with linear interpolation between the patches.

    NiiVue shows overlays without interpolation.
    """
    factor = np.ceil(np.array(heat.spacing) / HEAT_MM)
    factor = np.maximum(1, np.minimum(factor, (MAX_HEAT_VOXELS / heat.array.size) ** (1 / 3)).astype(int))
    scale = 1 / factor[::-1]
    affine = heat.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((scale - 1) / 2)
    affine[:3, :3] *= scale
    depth, height, width = (int(n) for n in np.array(heat.shape) * factor)
    return patches_to_grid(heat, affine, (depth, height, width))


def nifti_text(volume: CTVolume) -> str:
    """NIfTI file with the exact affine as sform, gzipped, in base64.

    Floats are stored in 255 steps of their maximum, which is enough for heat maps.
    """
    array, slope = volume.array, 1.0
    if array.dtype.kind == "f":
        slope = max(float(array.max()), 1e-6) / 255
        array = np.rint(np.clip(array, 0, None) / slope).astype(np.uint8)
    image = nib.Nifti1Image(array.transpose(2, 1, 0), None)
    image.header.set_xyzt_units("mm")
    image.header.set_zooms(volume.spacing[::-1])
    image.set_sform(volume.affine, code=1)
    image.set_qform(None, code=0)
    image.header.set_slope_inter(slope, 0)
    return base64.b64encode(gzip.compress(image.to_bytes(), LEVEL)).decode("ascii")
