"""Read a CT or a label map from any known file, checked; write one as NIfTI."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.utils import atomic_write
from ctvlm.volume.ct_volume import CTReadError, CTVolume
from ctvlm.volume.files import as_local_file
from ctvlm.volume.headers import HeaderGeometry, conflicting_qform, describe_conflict, missing_geometry
from ctvlm.volume.intensity import to_hu
from ctvlm.volume.orient import affine_from_axes, straighten, to_ras
from ctvlm.volume.readers import read_raw

# Voxel sizes outside this (mm) are a header in other units, or no header.
SPACING_RANGE = (0.05, 50.0)


class QFormConflictWarning(UserWarning):
    """A NIfTI header whose sform and qform place the voxels differently."""


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

    Warns:
        QFormConflictWarning: sform and qform of a NIfTI header disagree; the sform is used.
    """
    with as_local_file(path) as file:
        array, header = _placed(file, key, spacing, axes, affine, modality)
        array = to_hu(array, file, rescale, check_range)
    _warn_of_forms(path, header)
    return replace(to_ras(array, header.affine), header=header)


def read_label_map(
    path: str | Path,
    *,
    spacing: tuple[float, float, float] | None = None,
    axes: str | None = None,
    key: str | None = None,
) -> CTVolume:
    """Read a label map or a binary mask, on the grid of its own file; unsigned ids. Raises and warns as ``read_ct``."""
    with as_local_file(path) as file:
        array, header = _placed(file, key, spacing, axes)
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        raise CTReadError(path, "fractions or NaN", "whole label ids", "threshold or round it first, or it is no mask")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise CTReadError(path, f"ids from {low} to {high}", "ids 0..65535", "this looks like an image, not a mask")
    _warn_of_forms(path, header)
    array = array.astype(np.uint8 if high <= 255 else np.uint16)
    return replace(to_ras(array, header.affine, labels=True), header=header)


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
        Shape (z, y, x) and affine (4x4, to RAS+ mm) of a CTVolume that ``write_nifti`` lays out as the file is. A
        sheared grid cannot be written so that all programs agree: take ``orthogonal_grid`` of it.

    Raises:
        CTReadError, FileNotFoundError: as ``read_ct``.
    """
    with as_local_file(path) as file:
        _, header = _placed(file, key, spacing, axes, affine)
    return header.shape[::-1], header.affine


def write_nifti(volume: CTVolume, path: str | Path, slope: float = 1.0, description: str = "") -> None:
    """Write as .nii or .nii.gz, atomically; every program reads the same geometry from it.

    The file keeps the volume's axes and grid. A sheared grid is straightened before (labels: nearest neighbour;
    unsigned arrays with slope 1 are labels), because ITK-based programs refuse a sheared sform or read the qform, which
    cannot hold shear.

    Args:
        slope: readers multiply what is stored by it.
        description: the header's ``descrip``, at most 79 characters.
    """
    labels = volume.array.dtype.kind in "ub" and slope == 1
    array, affine = straighten(volume.array.transpose(2, 1, 0), volume.affine, labels, float(volume.array.min()))
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    # set_qform drops a shear too small to straighten by turning the axes about the first voxel. Turned about the
    # centre instead, no voxel moves by more than about a third of its size.
    centre = np.append((np.array(array.shape) - 1) / 2, 1)
    image.header["qoffset_x"], image.header["qoffset_y"], image.header["qoffset_z"] = (
        image.get_qform()[:3, 3] + ((affine - image.get_qform()) @ centre)[:3]
    )
    image.header.set_slope_inter(slope, 0)
    image.header["descrip"] = description
    with atomic_write(path) as part:
        nib.save(image, part)


def nifti_description(path: str | Path) -> str:
    """``descrip`` of a NIfTI file's header; "" for files of other types."""
    if not str(path).lower().endswith((".nii", ".nii.gz")):
        return ""
    with as_local_file(path) as file:
        return bytes(nib.load(file).header["descrip"].item()).decode("latin-1").strip("\0 ")


def _warn_of_forms(path: str | Path, header: HeaderGeometry) -> None:
    if header.alternative is not None:
        warnings.warn(f"{path}: {describe_conflict(header)}", QFormConflictWarning, stacklevel=3)


def _placed(
    path: Path,
    key: str | None,
    spacing: tuple[float, float, float] | None,
    axes: str | None,
    declared: Sequence[Sequence[float]] | None = None,
    modality: str | None = None,
) -> tuple[np.ndarray, HeaderGeometry]:
    """Array (3 axes, file order) and its geometry, after what the caller declared."""
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
    else:
        _check_stated(path, affine, spacing, axes)
        if spacing is not None or axes is not None:
            affine = _declare(array, affine, spacing, axes, path)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or sizes.min() < SPACING_RANGE[0] or sizes.max() > SPACING_RANGE[1]:
        found = f"voxel sizes {np.array2string(sizes, precision=4)}"
        do = "declare spacing= and axes=, or repair the header"
        raise CTReadError(path, found, f"{SPACING_RANGE[0]} to {SPACING_RANGE[1]} mm", do)
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 0.2:
        raise CTReadError(path, "axes that lie in one plane", "three independent axes", "repair the header's sform")
    other = None
    if (
        declared is None
        and axes is None
        and (other := conflicting_qform(path, array.shape)) is not None
        and spacing is not None
    ):
        other = _declare(array, other, spacing, axes, path)
    return array, HeaderGeometry(array.shape, affine, other)


def _check_stated(
    path: Path, affine: np.ndarray | None, spacing: tuple[float, float, float] | None, axes: str | None
) -> None:
    """Refuse a file whose geometry is neither in its header nor declared.

    Raises:
        CTReadError: names what is missing and which options declare it.
    """
    missing = dict.fromkeys(("spacing", "orientation", "position"), "") if affine is None else missing_geometry(path)
    # Declared axes place the first voxel at 0.
    declared = {"spacing": spacing is not None, "orientation": axes is not None, "position": axes is not None}
    left = [part for part in missing if not declared[part]]
    if not left:
        return
    keys = ", ".join(dict.fromkeys(missing[part] for part in left if missing[part]))
    found = (
        f"no {' or '.join(left)} in the file ({keys} is missing)" if keys else "no position or orientation in the file"
    )
    options = ["spacing=(z, y, x) in mm"] if "spacing" in left else []
    options += ["axes=, such as 'LPS'"] if len(left) > ("spacing" in left) else []
    do = f"declare {' and '.join(options)}" + ("; the first voxel is then at 0, 0, 0" if "position" in left else "")
    raise CTReadError(path, found, "a header that states the geometry", do)


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
) -> np.ndarray:
    # An .npz array lies in (z, y, x), every other type in (x, y, z).
    in_file = None if spacing is None else tuple(spacing) if path.suffix.lower() == ".npz" else tuple(spacing)[::-1]
    if affine is None:
        return affine_from_axes(axes, in_file)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if axes is not None:
        return affine_from_axes(axes, in_file or tuple(sizes))
    out = affine.copy()
    out[:3, :3] *= np.asarray(in_file) / sizes
    return out
