"""Detection of DICOM folders and their CT series."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ctvlm.volume import CTReadError
from ctvlm.volume.dicom_headers import describe, find_series, is_dicom, not_ct_reason

# Number of files per folder that are tested for DICOM.
MAX_TESTED = 8


@dataclass(frozen=True)
class CTSeries:
    """CT series of a DICOM folder.

    Attributes:
        volumes: ``volume`` entry of the manifest by series UID; ``key`` is omitted for a single series.
        reason: why there is no CT series, or "".
    """

    volumes: dict[str, str | dict]
    reason: str = ""


def dicom_folders(paths: Iterable[Path]) -> set[Path]:
    """Return the parents of ``paths`` that contain DICOM files."""
    by_folder: dict[Path, list[Path]] = {}
    dicom = set()
    for path in paths:
        tested = by_folder.setdefault(path.parent, [])
        if path.parent in dicom or len(tested) >= MAX_TESTED or not path.is_file():
            continue
        tested.append(path)
        if is_dicom(path):
            dicom.add(path.parent)
    return dicom


def ct_series(folder: Path) -> CTSeries:
    """Find the CT series of a folder. Their files are checked later, when the case is opened."""
    try:
        series = find_series(folder)
    except (CTReadError, ImportError) as error:
        return CTSeries({}, str(error))
    ct = {uid: headers for uid, headers in series.items() if any(not_ct_reason(header) is None for header in headers)}
    if not ct:
        listed = ", ".join(describe(uid, headers) for uid, headers in series.items())
        return CTSeries({}, f"DICOM folder {folder.name}: found {listed or 'no image'}; expected a CT series")
    if len(series) == 1:
        return CTSeries({uid: str(folder) for uid in ct})
    return CTSeries({uid: {"path": str(folder), "key": uid} for uid in ct})
