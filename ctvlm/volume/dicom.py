"""Reader of DICOM CT series and enhanced multi-frame CT, with pydicom (headers) and SimpleITK (pixels)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctvlm.utils import MissingPackageError
from ctvlm.volume.ct_volume import CTReadError
from ctvlm.volume.dicom_headers import (
    Frame,
    Header,
    affine_from_frames,
    describe,
    find_series,
    not_ct_reason,
    read_frames,
)
from ctvlm.volume.sizes import check_size

CT_IMAGES = "the slices of one CT series, or one enhanced CT file"


def read_dicom(path: Path, key: str | None = None, modality: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read one CT series from a folder, or one multi-frame file.

    Args:
        path: folder with the slices or with one multi-frame file, or a multi-frame file.
        key: series UID, required if the folder contains several series.
        modality: "CT" for files without a Modality tag.

    Returns:
        HU in (x, y, z) order with z along the slice normal, and the affine (4x4) to RAS+ mm.

    Raises:
        CTReadError: no series or several, an unknown ``key``, a file that is not a CT slice (localizer, dose report,
            segmentation), or slices that do not form a grid.
        MissingPackageError: pydicom or SimpleITK is not installed.
    """
    headers = _select_series(path, find_series(path), key)
    _check_ct_only(path, headers, modality)
    sizes = {(h.tags.get("Rows"), h.tags.get("Columns")) for h in headers}
    if len(sizes) > 1:
        raise CTReadError(path, f"slices of sizes {sorted(sizes)}", "one size", "split the series")
    multi = [h for h in headers if h.frames > 1]
    if multi and len(headers) > 1:
        found = f"{len(headers)} files in one series, {len(multi)} of them with several frames"
        raise CTReadError(path, found, CT_IMAGES, f"give the path of one file, such as {multi[0].path.name}")
    if path.is_file() and not multi:
        raise CTReadError(path, "one slice of a series", CT_IMAGES, "give the folder of the slices")
    rows, columns = (int(n or 0) for n in sizes.pop())
    # GDCM decodes to 2 or 4 bytes per voxel, except for a rescale slope that is not an integer.
    check_size(path, (sum(h.frames for h in headers), rows, columns), 4)
    frames = [frame for header in headers for frame in read_frames(header)]
    affine, order = affine_from_frames(frames, path)
    array = _pixels([headers[0].path] if multi else [headers[k].path for k in order])
    if multi:
        array = _rescale_each(array, frames)[order]
    return array.transpose(2, 1, 0), affine


def _select_series(path: Path, series: dict[str, list[Header]], key: str | None) -> list[Header]:
    if not series:
        action = "give the folder that contains the slices, not its parent"
        raise CTReadError(path, "0 DICOM series", CT_IMAGES, action)
    listed = ", ".join(describe(uid, headers) for uid, headers in series.items())
    if key is not None and key not in series:
        raise CTReadError(path, f"no DICOM series {key}", f"one of {listed}", "correct key= (a SeriesInstanceUID)")
    if key is None and len(series) > 1:
        action = f"give key= (a SeriesInstanceUID): {listed}"
        raise CTReadError(path, f"{len(series)} DICOM series", CT_IMAGES, action)
    return series[key if key is not None else next(iter(series))]


def _check_ct_only(path: Path, headers: list[Header], modality: str | None) -> None:
    others = [(h.path.name, *reason) for h in headers if (reason := not_ct_reason(h, modality))]
    if not others:
        return
    name, found, action = others[0]
    if len(others) < len(headers):
        found = f"{found} among the slices: {name} ({len(others)} of {len(headers)} files)"
    raise CTReadError(path, found, CT_IMAGES, action)


def _pixels(files: list[Path]) -> np.ndarray:
    """(slices, rows, columns) in file order; GDCM decodes the pixels and applies the rescale of the first frame."""
    try:
        import SimpleITK as sitk
    except ImportError:
        raise MissingPackageError(f"{files[0]}: reading DICOM needs SimpleITK: pip install 'ctvlm[dicom]'") from None
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    if len(files) == 1:
        image = sitk.ReadImage(str(files[0]), imageIO="GDCMImageIO")
    else:
        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames([str(file) for file in files])
        image = reader.Execute()
    return sitk.GetArrayFromImage(image)


def _rescale_each(array: np.ndarray, frames: list[Frame]) -> np.ndarray:
    """Apply the slope and intercept of each frame; GDCM applies those of the first frame to all."""
    if len({frame.rescale for frame in frames}) == 1:
        return array
    slope, intercept = frames[0].rescale
    stored = (array.astype(np.float64) - intercept) / slope
    slopes, intercepts = (np.array([f.rescale[i] for f in frames])[:, None, None] for i in (0, 1))
    return (stored * slopes + intercepts).astype(np.float32)
