"""Read CTs and label maps from any supported file type with checks, and write them as NIfTI."""

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
from ctvlm.volume.headers import HeaderGeometry, conflicting_qform, describe_conflict, load_nifti, missing_geometry
from ctvlm.volume.intensity import to_hu
from ctvlm.volume.orient import affine_from_axes, straighten, to_ras
from ctvlm.volume.readers import read_raw

# Voxel sizes (mm) outside this range are in other units or invalid.
SPACING_RANGE = (0.05, 50.0)


class QFormConflictWarning(UserWarning):
    """The sform and qform of a NIfTI header differ."""


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
    allow_outside: bool = False,
) -> CTVolume:
    """Read a CT in HU, (z, y, x), on an orthogonal RAS+ grid.

    By default the geometry and rescale come from the header. The options declare values that are missing or wrong.

    Args:
        path: .nii, .nii.gz, .hdr or .img, .mha, .mhd, .nrrd, .nhdr, .npz, .b2nd, a folder with one DICOM series, or
            an enhanced DICOM file; suffixes in any case. The path of a file can be an fsspec URL.
        rescale: (slope, intercept) of stored values.
        spacing: voxel size in mm of the file's axes, in (z, y, x) order for every file type.
        axes: directions in which the file's axes increase, such as "LPS", in the file's axis order.
        key: array name of an .npz, series UID of a DICOM folder, or the label to select from a .b2nd.
        affine: 4x4 from the file's axes, in the file's axis order, to RAS+ mm, for headers without geometry. Replaces
            ``spacing`` and ``axes``.
        check_range: False accepts values that are not HU.
        modality: "CT" for DICOM files without a Modality tag.
        allow_outside: accept a MetaImage or NRRD header whose data file is not in its folder; only for headers that
            you trust, because a header can name any file.

    Raises:
        CTReadError: the file is not a valid CT, or larger than the limits of ``ctvlm.utils.limits``.
        FileNotFoundError: the file does not exist.

    Warns:
        QFormConflictWarning: sform and qform of a NIfTI header differ; the sform is used.
    """
    with as_local_file(path) as file:
        array, header = _read_with_geometry(file, key, spacing, axes, affine, modality, allow_outside)
        array = to_hu(array, file, rescale, check_range)
    _warn_of_conflict(path, header)
    return replace(to_ras(array, header.affine), header=header)


def read_label_map(
    path: str | Path,
    *,
    spacing: tuple[float, float, float] | None = None,
    axes: str | None = None,
    key: str | None = None,
    allow_outside: bool = False,
) -> CTVolume:
    """Read a label map or binary mask with unsigned ids on the grid of its file. Raises and warns as ``read_ct``."""
    with as_local_file(path) as file:
        array, header = _read_with_geometry(file, key, spacing, axes, allow_outside=allow_outside)
    array = _label_ids(array, path)
    _warn_of_conflict(path, header)
    return replace(to_ras(array, header.affine, labels=True), header=header)


def ct_in_memory(volume: CTVolume, name: str) -> CTVolume:
    """``read_ct`` for a volume in memory with any orientation: the same checks, result and errors.

    Args:
        name: of the volume, for error messages.
    """
    _check_grid(volume.shape[::-1], volume.affine, name)
    return _reoriented(volume, to_hu(volume.array, name))


def labels_in_memory(volume: CTVolume, name: str) -> CTVolume:
    """``read_label_map`` for a volume in memory; ``name`` as in ``ct_in_memory``."""
    _check_grid(volume.shape[::-1], volume.affine, name)
    return _reoriented(volume, _label_ids(volume.array, name), labels=True)


def _reoriented(volume: CTVolume, array: np.ndarray, labels: bool = False) -> CTVolume:
    ras = to_ras(array.transpose(2, 1, 0), volume.affine, labels=labels)
    # A volume that was read from a sheared file is orthogonal, and keeps the removed shear and the grid of the file.
    header = volume.header or HeaderGeometry(volume.shape[::-1], volume.affine)
    return replace(ras, shear_degrees=ras.shear_degrees or volume.shear_degrees, header=header)


def _label_ids(array: np.ndarray, name: str | Path) -> np.ndarray:
    if array.dtype.kind not in "iufb":
        raise CTReadError(name, f"dtype {array.dtype}", "integer label ids", "check that the array is a mask")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        raise CTReadError(name, "fractions or NaN", "integer label ids", "threshold or round the values of a mask")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise CTReadError(name, f"ids from {low} to {high}", "ids 0..65535", "check that the file is not an image")
    return array.astype(np.uint8 if high <= 255 else np.uint16)


def read_grid(
    path: str | Path,
    *,
    spacing: tuple[float, float, float] | None = None,
    axes: str | None = None,
    key: str | None = None,
    affine: Sequence[Sequence[float]] | None = None,
    allow_outside: bool = False,
) -> tuple[tuple[int, int, int], np.ndarray]:
    """Read the grid of a file without reorientation, for results that overlay the file in a viewer.

    Returns:
        Shape (z, y, x) and affine (4x4, to RAS+ mm) of a CTVolume that ``write_nifti`` writes with the layout of the
        file. Programs do not agree on sheared grids: use ``orthogonal_grid`` of such a grid.

    Raises:
        CTReadError, FileNotFoundError: as ``read_ct``.
    """
    with as_local_file(path) as file:
        _, header = _read_with_geometry(file, key, spacing, axes, affine, allow_outside=allow_outside)
    return header.shape[::-1], header.affine


def check_nifti_header(path: str | Path) -> None:
    """Check the shape and orientation of a NIfTI file from its header, without reading voxels.

    Raises:
        CTReadError: no readable header, more than 3 axes, an orientation that is not stored or is broken (NaN, axes in
            one plane), or a voxel size that no CT has.
    """
    with as_local_file(path) as file:
        try:
            image = load_nifti(file)
            shape, affine = image.shape, np.asarray(image.affine)
            codes = [int(image.header[code]) for code in ("sform_code", "qform_code")]
        except FileNotFoundError:
            raise
        except Exception as error:
            # nibabel raises many types of exceptions for damaged headers.
            found = f"a header that cannot be read ({type(error).__name__}: {error})"
            raise CTReadError(path, found, "a NIfTI header", "download the file again") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise CTReadError(path, f"shape {shape}", "3 axes", "leave the file out, or split it into volumes")
    if not any(codes):
        found, action = "no orientation (sform_code and qform_code are 0)", "leave the file out, or repair the header"
        raise CTReadError(path, found, "an orientation in the header", action)
    _check_grid(shape, affine, path)


def write_nifti(volume: CTVolume, path: str | Path, slope: float = 1.0, description: str = "") -> None:
    """Write a .nii or .nii.gz file atomically, with a geometry that all programs read identically.

    The file keeps the axes and grid of the volume. A sheared grid is resampled to an orthogonal one (unsigned arrays
    with slope 1 are labels and use nearest neighbour), because ITK-based programs reject a sheared sform or read the
    qform, which cannot represent shear.

    Args:
        slope: factor that readers apply to the stored values.
        description: ``descrip`` of the header, at most 79 characters.
    """
    labels = volume.array.dtype.kind in "ub" and slope == 1
    array, affine = straighten(volume.array.transpose(2, 1, 0), volume.affine, labels, float(volume.array.min()))
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    # set_qform removes a small shear by rotating the axes about the first voxel. With a rotation about the centre no
    # voxel moves by more than about a third of its size.
    centre = np.append((np.array(array.shape) - 1) / 2, 1)
    image.header["qoffset_x"], image.header["qoffset_y"], image.header["qoffset_z"] = (
        image.get_qform()[:3, 3] + ((affine - image.get_qform()) @ centre)[:3]
    )
    image.header.set_slope_inter(slope, 0)
    image.header["descrip"] = description
    with atomic_write(path) as part:
        nib.save(image, part)


def nifti_description(path: str | Path) -> str:
    """``descrip`` of a NIfTI header; "" for other file types."""
    if not str(path).lower().endswith((".nii", ".nii.gz")):
        return ""
    with as_local_file(path) as file:
        return bytes(load_nifti(file).header["descrip"].item()).decode("latin-1").strip("\0 ")


def _warn_of_conflict(path: str | Path, header: HeaderGeometry) -> None:
    if header.alternative is not None:
        warnings.warn(f"{path}: {describe_conflict(header)}", QFormConflictWarning, stacklevel=3)


def _read_with_geometry(
    path: Path,
    key: str | None,
    spacing: tuple[float, float, float] | None,
    axes: str | None,
    declared: Sequence[Sequence[float]] | None = None,
    modality: str | None = None,
    allow_outside: bool = False,
) -> tuple[np.ndarray, HeaderGeometry]:
    """Array (3 axes, file order) and its geometry, with the options of the caller applied."""
    array, stored = read_raw(path, key, modality, allow_outside)
    if array.dtype.kind not in "iufb":
        raise CTReadError(path, f"dtype {array.dtype}", "one number per voxel", "check that the file is a CT or mask")
    array, stored = _three_axes(array, stored, path)
    if declared is not None:
        affine = np.asarray(declared, dtype=np.float64)
        if affine.shape != (4, 4) or spacing is not None or axes is not None:
            raise ValueError(
                f"{path}: found affine= of shape {affine.shape}; expected 4x4, and neither spacing= nor axes=."
            )
    else:
        _check_complete(path, stored, spacing, axes)
        affine = _apply_declared(stored, spacing, axes, path)
    _check_grid(array.shape, affine, path)
    alternative = None
    if declared is None and axes is None and (qform := conflicting_qform(path, array.shape)) is not None:
        alternative = _apply_declared(qform, spacing, None, path)
    return array, HeaderGeometry(array.shape, affine, alternative)


def _check_grid(shape: tuple[int, ...], affine: np.ndarray, name: str | Path) -> None:
    if min(shape) < 2:
        raise CTReadError(name, f"shape {shape}", "at least 2 voxels along each axis", "give a whole volume")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or sizes.min() < SPACING_RANGE[0] or sizes.max() > SPACING_RANGE[1]:
        found = f"voxel sizes {np.array2string(sizes, precision=4)}"
        action = "declare spacing= and axes=, or repair the header"
        raise CTReadError(name, found, f"{SPACING_RANGE[0]} to {SPACING_RANGE[1]} mm", action)
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 0.2:
        raise CTReadError(name, "axes in one plane", "three independent axes", "repair the affine (sform) of the file")


def _check_complete(
    path: Path, affine: np.ndarray | None, spacing: tuple[float, float, float] | None, axes: str | None
) -> None:
    """Check that each part of the geometry is in the header or declared.

    Raises:
        CTReadError: states the missing parts and the options that declare them.
    """
    absent = dict.fromkeys(("spacing", "orientation", "position"), "") if affine is None else missing_geometry(path)
    # Declared axes place the first voxel at 0.
    declared = {"spacing": spacing is not None, "orientation": axes is not None, "position": axes is not None}
    missing = [part for part in absent if not declared[part]]
    if not missing:
        return
    keys = ", ".join(dict.fromkeys(absent[part] for part in missing if absent[part]))
    found = f"no {' or '.join(missing)} in the file" + (f" ({keys} is missing)" if keys else "")
    options = ["spacing=(z, y, x) in mm"] if "spacing" in missing else []
    options += ["axes=, such as 'LPS'"] if len(missing) > ("spacing" in missing) else []
    note = "; the first voxel is then at 0, 0, 0" if "position" in missing else ""
    raise CTReadError(path, found, "a header with geometry", f"declare {' and '.join(options)}{note}")


def _three_axes(array: np.ndarray, affine: np.ndarray | None, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Remove axes of length 1 beyond the third: trailing axes with an affine (NIfTI), else leading axes (arrays)."""
    shape = array.shape
    while array.ndim > 3 and array.shape[-1 if affine is not None else 0] == 1:
        array = array[..., 0] if affine is not None else array[0]
    if array.ndim != 3:
        action = "split it into volumes" if array.ndim > 3 else "give a whole volume"
        raise CTReadError(path, f"shape {shape}", "3 axes", action)
    return array, affine


def _apply_declared(
    affine: np.ndarray | None, spacing: tuple[float, float, float] | None, axes: str | None, path: Path
) -> np.ndarray:
    """Affine with the declared spacing and axes; both are required without an affine (``_check_complete``)."""
    # The axis order is (z, y, x) in an .npz and (x, y, z) in every other file type.
    sizes = None if spacing is None else np.array(spacing if path.suffix.lower() == ".npz" else spacing[::-1])
    if affine is not None:
        stored = np.linalg.norm(affine[:3, :3], axis=0)
        if axes is None:
            out = affine.copy()
            out[:3, :3] *= 1 if sizes is None else sizes / stored
            return out
        sizes = stored if sizes is None else sizes
    if axes is None or sizes is None:
        raise CTReadError(path, "no geometry", "a header with geometry", "declare spacing= and axes=")
    return affine_from_axes(axes, sizes)
