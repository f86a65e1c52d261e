"""DICOM headers: series of a folder, type of each file, geometry of the slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctvlm.utils import MissingPackageError
from ctvlm.volume.ct_volume import CTReadError
from ctvlm.volume.sizes import check_deflated

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
DEFLATED = "1.2.840.10008.1.2.1.99"
DICOMDIR = "1.2.840.10008.1.3.10"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
TAGS = (
    "SOPClassUID Modality ImageType SeriesInstanceUID SeriesDescription ImagePositionPatient ImageOrientationPatient "
    "PixelSpacing SliceThickness Rows Columns NumberOfFrames SamplesPerPixel RescaleSlope RescaleIntercept "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
).split()


@dataclass(frozen=True)
class Header:
    """One file of a series. ``tags`` is a pydicom data set without pixels."""

    path: Path
    tags: Dataset

    @property
    def frames(self) -> int:
        return int(self.tags.get("NumberOfFrames") or 1)

    @property
    def modality(self) -> str:
        return str(self.tags.get("Modality") or "").strip()


@dataclass(frozen=True)
class Frame:
    """One slice, in LPS mm.

    Attributes:
        position: first voxel (3).
        axes: directions of rows and columns (2, 3).
        spacing: distance between rows and between columns.
        thickness: slice thickness.
        rescale: (slope, intercept) of stored values.
        name: file name or frame number, for messages.
    """

    position: np.ndarray
    axes: np.ndarray
    spacing: tuple[float, float]
    thickness: float
    rescale: tuple[float, float]
    name: str


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM preamble or a DICOM suffix (old files have no preamble)."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return path.is_file()
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def find_series(path: Path) -> dict[str, list[Header]]:
    """Series UID to the DICOM files of a folder (without subfolders), or to one file.

    Raises:
        CTReadError: a DICOM header cannot be read.
        MissingPackageError: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise MissingPackageError(
            f"{path}: reading DICOM needs pydicom and SimpleITK: pip install 'ctvlm[dicom]'"
        ) from None
    series: dict[str, list[Header]] = {}
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    for file in filter(is_dicom, files):
        try:
            _check_deflated(file)
            tags = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS, force=True)
        except CTReadError:
            raise
        except Exception as error:  # pydicom raises many types for other files
            found = f"a DICOM header that cannot be read ({error})"
            raise CTReadError(file, found, "a valid DICOM file", "download or export it again") from error
        if not len(tags) or tags.get("SOPClassUID") == DICOMDIR:
            continue
        series.setdefault(str(tags.get("SeriesInstanceUID") or "none"), []).append(Header(file, tags))
    return series


def _check_deflated(path: Path) -> None:
    """pydicom decompresses the whole data set of a deflated file, also for its first tags."""
    from pydicom.filereader import _read_file_meta_info, read_preamble

    with open(path, "rb") as file:
        read_preamble(file, force=True)
        meta = _read_file_meta_info(file)  # the public function accepts no file without a preamble
        if meta.get("TransferSyntaxUID") == DEFLATED:
            check_deflated(path, file.tell())


def not_ct_reason(header: Header, modality: str | None = None) -> tuple[str, str] | None:
    """(what the file is, what to do) for a file that is not a CT slice; None for a CT slice.

    Args:
        modality: declared for files without a Modality tag.
    """
    tags, found = header.tags, header.modality or modality or ""
    image_type = [str(part).upper() for part in tags.get("ImageType") or []]
    sop_class = str(tags.get("SOPClassUID") or "")
    if found == "SEG" or sop_class == SEGMENTATION:
        action = "convert it to NIfTI, for example with segimage2itkimage of dcmqi, and give that file as the mask"
        return "a DICOM segmentation (SEG)", action
    if found == "RTSTRUCT":
        return "contours (RTSTRUCT)", "convert them to a NIfTI mask first"
    if found == "SR":
        return "a structured report (SR), such as a dose report", "remove it: it contains no image"
    if sop_class.startswith(SECONDARY_CAPTURE) or int(tags.get("SamplesPerPixel") or 1) > 1 or "DOSE" in image_type:
        return "a screen capture, such as a dose report", "remove it"
    if not found:
        return "no Modality tag", "if it is a CT, declare modality='CT'"
    if found != "CT":
        return f"modality {found}", "remove it"
    if "LOCALIZER" in image_type:
        return "a localizer (scout image)", "move it out of the folder"
    return None


def describe(uid: str, headers: Sequence[Header]) -> str:
    """Short description of a series, for messages."""
    reason = not_ct_reason(headers[0])
    kind = reason[0] if reason else "CT"
    title = str(headers[0].tags.get("SeriesDescription") or "").strip()
    return f"{uid} ({kind}, {sum(h.frames for h in headers)} images{f', {title}' if title else ''})"


def read_frames(header: Header) -> list[Frame]:
    """Slices of one file, in stored order.

    Raises:
        CTReadError: a slice has no position, orientation or spacing.
    """
    if header.frames == 1 and "PerFrameFunctionalGroupsSequence" not in header.tags:
        return [_frame(header, [header.tags], 0)]
    shared = list(header.tags.get("SharedFunctionalGroupsSequence") or [])
    each = list(header.tags.get("PerFrameFunctionalGroupsSequence") or [])
    if len(each) != header.frames:
        found = f"{header.frames} frames but {len(each)} positions"
        raise CTReadError(header.path, found, "a position for every frame (enhanced CT)", "export it as single slices")
    return [_frame(header, [frame, *shared], k) for k, frame in enumerate(each)]


def _frame(header: Header, groups: list, number: int) -> Frame:
    def value(sequence: str, keyword: str):
        for group in groups:
            inside = group.get(sequence)
            for item in [*(inside or []), group]:
                if item.get(keyword) is not None:
                    return item.get(keyword)
        return header.tags.get(keyword)

    position = value("PlanePositionSequence", "ImagePositionPatient")
    axes = value("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = value("PixelMeasuresSequence", "PixelSpacing")
    for name, found in (
        ("ImagePositionPatient", position),
        ("ImageOrientationPatient", axes),
        ("PixelSpacing", spacing),
    ):
        if not found:
            action = "export the series again with its geometry"
            raise CTReadError(header.path, f"no {name} of frame {number + 1}", "a slice with geometry", action)
    slope = value("PixelValueTransformationSequence", "RescaleSlope")
    intercept = value("PixelValueTransformationSequence", "RescaleIntercept")
    return Frame(
        position=np.array(position, dtype=float),
        axes=np.array(axes, dtype=float).reshape(2, 3),
        spacing=(float(spacing[0]), float(spacing[1])),
        thickness=float(value("PixelMeasuresSequence", "SliceThickness") or 1.0),
        rescale=(1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)),
        name=header.path.name if header.frames == 1 else f"frame {number + 1}",
    )


def affine_from_frames(frames: Sequence[Frame], path: Path) -> tuple[np.ndarray, list[int]]:
    """Affine (4x4, voxel x, y, z to RAS+ mm) of the slices, and their order along the third axis.

    The step between slices is the difference of their positions, so that the affine includes a gantry tilt.

    Raises:
        CTReadError: the slices have several orientations or spacings, equal positions, or uneven distances.
    """
    first = frames[0]
    if any(np.abs(f.axes - first.axes).max() > 1e-3 for f in frames):
        action = "remove the localizer or the other reformats"
        raise CTReadError(path, "slices of several orientations in one series", "parallel slices", action)
    if any(np.abs(np.subtract(f.spacing, first.spacing)).max() > 1e-3 for f in frames):
        found = f"pixel spacings {sorted({f.spacing for f in frames})} in one series"
        raise CTReadError(path, found, "one pixel spacing", "split the series")
    normal = np.cross(*first.axes)
    order = sorted(range(len(frames)), key=lambda k: float(frames[k].position @ normal))
    origins = np.array([frames[k].position for k in order])
    step = normal * first.thickness
    if len(frames) > 1:
        step = _even_step(origins, normal, [frames[k].name for k in order], path)
    affine = np.eye(4)
    # PixelSpacing is (between rows, between columns); the first axis of the array runs along a row.
    affine[:3, 0] = first.axes[0] * first.spacing[1]
    affine[:3, 1] = first.axes[1] * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, origins[0]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, order


def _even_step(origins: np.ndarray, normal: np.ndarray, names: list[str], path: Path) -> np.ndarray:
    steps = np.diff(origins, axis=0)
    gaps = steps @ normal
    tolerance = max(0.02, 0.02 * float(np.median(gaps)))
    if gaps.min() < 0.01:
        found = f"{(gaps < 0.01).sum()} slices at the position of another, such as {names[int(gaps.argmin()) + 1]}"
        action = "split the mixed phases or reconstructions"
        raise CTReadError(path, found, "one slice per position", action)
    if np.linalg.norm(steps - steps.mean(axis=0), axis=1).max() <= tolerance:
        return steps.mean(axis=0)
    counts = Counter(round(float(gap), 2) for gap in gaps)
    usual = counts.most_common(1)[0][0]
    wide = [k for k, gap in enumerate(gaps) if gap > 1.5 * usual]
    listed = " and ".join(f"{gap:.2f} mm ({count} gaps)" for gap, count in sorted(counts.items())[:6])
    action = "split the series with two slice spacings, or resample it before"
    if 0 < len(wide) <= max(1, len(gaps) // 10) and sum(counts.values()) - counts[usual] == len(wide):
        action = f"complete the series: slices are missing after {names[wide[0]]}"
    if len(counts) == 1:
        listed, action = f"{listed}, not on a straight line", "split the two mixed series"
    raise CTReadError(path, f"slice distances of {listed}", "equal distances", action)
