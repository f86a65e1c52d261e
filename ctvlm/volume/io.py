"""Read a CT or a label map from any known file, checked; write one as NIfTI."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.volume.ct_volume import CTReadError, CTVolume
from ctvlm.volume.files import as_local_file
from ctvlm.volume.intensity import to_hu
from ctvlm.volume.orient import affine_from_axes, to_ras
from ctvlm.volume.readers import read_raw

# Voxel sizes outside this (mm) are a header in other units, or no header.
SPACING_RANGE = (0.05, 50.0)


def read_ct(
    path: str | Path,
    *,
    rescale: tuple[float, float] | None = None,
    spacing: tuple[float, float, float] | None = None,
    axes: str | None = None,
    key: str | None = None,
    affine: Sequence[Sequence[float]] | None = None,
    check_range: bool = True,
    modality: str | None = None,
) -> CTVolume:
    """Read a CT to HU, RAS+, (z, y, x), on an orthogonal grid.

    The options declare what a file does not say or says wrongly; by default all comes from the header.

    Args:
        path: .nii, .nii.gz, .hdr or .img, .mha, .mhd, .nrrd, .nhdr, .npz, .b2nd, a folder with one DICOM series, or
            an enhanced DICOM file; suffixes in any case. A file's path may be an fsspec URL.
        rescale: (slope, intercept) of stored values.
        spacing: voxel size in mm of the file's axes, in (z, y, x) order for every type.
        axes: where the file's axes grow to, such as "LPS", in the file's own axis order.
        key: array name of an .npz, series UID of a DICOM folder, or the one label to take of a .b2nd.
        affine: 4x4 from the file's axes, in the file's own axis order, to RAS+ mm: for a blank header whose geometry
            is known from elsewhere. Takes the place of ``spacing`` and ``axes``.
        check_range: False accepts values that do not look like HU.
        modality: "CT" for DICOM files without a Modality tag.

    Raises:
        CTReadError: the file cannot become a right volume.
        FileNotFoundError: there is no such file.
    """
    with as_local_file(path) as file:
        array, affine = _placed(file, key, spacing, axes, affine, modality)
        array = to_hu(array, file, rescale, check_range)
    return to_ras(array, affine)


def read_label_map(
    path: str | Path,
    *,
    spacing: tuple[float, float, float] | None = None,
    axes: str | None = None,
    key: str | None = None,
) -> CTVolume:
    """Read a label map or a binary mask, on the grid of its own file; unsigned ids. Raises as ``read_ct``."""
    with as_local_file(path) as file:
        array, affine = _placed(file, key, spacing, axes)
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        raise CTReadError(path, "fractions or NaN", "whole label ids", "threshold or round it first, or it is no mask")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise CTReadError(path, f"ids from {low} to {high}", "ids 0..65535", "this looks like an image, not a mask")
    return to_ras(array.astype(np.uint8 if high <= 255 else np.uint16), affine, labels=True)


def read_grid(
    path: str | Path,
    *,
    spacing: tuple[float, float, float] | None = None,
    axes: str | None = None,
    key: str | None = None,
    affine: Sequence[Sequence[float]] | None = None,
) -> tuple[tuple[int, int, int], np.ndarray]:
    """The file's own grid, neither turned nor straightened: for results that are to lie over the file in a viewer.

    Returns:
        Shape and affine (4x4, to RAS+ mm) of a CTVolume that ``write_nifti`` lays out as the file is.

    Raises:
        CTReadError, FileNotFoundError: as ``read_ct``.
    """
    with as_local_file(path) as file:
        array, affine = _placed(file, key, spacing, axes, affine)
    return array.shape[::-1], affine


def write_nifti(volume: CTVolume, path: str | Path, slope: float = 1.0) -> None:
    """Write as .nii or .nii.gz with the same geometry, atomically; readers multiply what is stored by ``slope``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix decides on compression, so the part file keeps it.
    part = path.with_name(f".part{os.getpid()}_{path.name}")
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.affine)
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1)
    image.header.set_slope_inter(slope, 0)
    try:
        nib.save(image, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _placed(
    path: Path,
    key: str | None,
    spacing: tuple[float, float, float] | None,
    axes: str | None,
    declared: Sequence[Sequence[float]] | None = None,
    modality: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Array (3 axes, file order) and its affine, after what the caller declared."""
    array, affine = read_raw(path, key, modality)
    if array.dtype.kind not in "iufb":
        raise CTReadError(path, f"dtype {array.dtype}", "one number per voxel", "this is a picture, not a CT")
    array, affine = _three_axes(array, affine, path)
    if min(array.shape) < 2:
        raise CTReadError(path, f"shape {array.shape}", "at least 2 voxels along each axis", "one slice is no volume")
    if declared is not None:
        affine = np.asarray(declared, dtype=np.float64)
        if affine.shape != (4, 4) or spacing is not None or axes is not None:
            raise ValueError(
                f"{path}: affine= is of shape {affine.shape}; expected 4x4, without spacing= and axes= beside it"
            )
    elif spacing is not None or axes is not None:
        affine = _declare(array, affine, spacing, axes, path)
    if affine is None:
        do = "declare spacing=(z, y, x) in mm and axes=, such as 'LPS'"
        raise CTReadError(path, "no position or orientation in the file", "an affine (sform or qform)", do)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or sizes.min() < SPACING_RANGE[0] or sizes.max() > SPACING_RANGE[1]:
        found = f"voxel sizes {np.array2string(sizes, precision=4)}"
        do = "declare spacing= and axes=, or repair the header"
        raise CTReadError(path, found, f"{SPACING_RANGE[0]} to {SPACING_RANGE[1]} mm", do)
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 0.2:
        raise CTReadError(path, "axes that lie in one plane", "three independent axes", "repair the header's sform")
    return array, affine


def _three_axes(array: np.ndarray, affine: np.ndarray | None, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Drop axes of length 1 beyond the third: trailing with an affine (NIfTI), leading without (arrays)."""
    shape = array.shape
    while array.ndim > 3 and array.shape[-1 if affine is not None else 0] == 1:
        array = array[..., 0] if affine is not None else array[0]
    if array.ndim != 3:
        do = "split it, and give one volume" if array.ndim > 3 else "a volume needs three axes"
        raise CTReadError(path, f"shape {shape}", "3 axes", do)
    return array, affine


def _declare(
    array: np.ndarray,
    affine: np.ndarray | None,
    spacing: tuple[float, float, float] | None,
    axes: str | None,
    path: Path,
) -> np.ndarray | None:
    # An .npz array lies in (z, y, x), every other type in (x, y, z).
    in_file = None if spacing is None else tuple(spacing) if path.suffix.lower() == ".npz" else tuple(spacing)[::-1]
    if affine is None:
        if in_file is None or axes is None:
            return None
        return affine_from_axes(axes, in_file)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if axes is not None:
        return affine_from_axes(axes, in_file or tuple(sizes))
    out = affine.copy()
    out[:3, :3] *= np.asarray(in_file) / sizes
    return out
