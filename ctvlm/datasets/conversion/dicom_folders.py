"""DICOM folders below a root, and the CT series that each holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ctvlm.volume import CTReadError
from ctvlm.volume.dicom_headers import describe, find_series, is_dicom, not_ct_reason

# Files of a folder that are opened before it counts as one without DICOM.
TRIED = 8


@dataclass(frozen=True)
class CTSeries:
    """Series of a DICOM folder.

    Attributes:
        volumes: ``volume`` of a manifest's case by series UID; one series alone needs no ``key``.
        reason: why there is none, or "".
    """

    volumes: dict[str, str | dict]
    reason: str = ""


def dicom_folders(paths: Iterable[Path]) -> set[Path]:
    """Folders that hold DICOM files directly, among the parents of ``paths``."""
    by_folder: dict[Path, list[Path]] = {}
    found = set()
    for path in paths:
        tried = by_folder.setdefault(path.parent, [])
        if path.parent in found or len(tried) >= TRIED or not path.is_file():
            continue
        tried.append(path)
        if is_dicom(path):
            found.add(path.parent)
    return found


def ct_series(folder: Path) -> CTSeries:
    """CT series of a folder; the files of a series are checked when the case is opened."""
    try:
        series = find_series(folder)
    except (CTReadError, ImportError) as error:
        return CTSeries({}, str(error))
    names = {
        uid: headers for uid, headers in series.items() if any(not_ct_reason(header) is None for header in headers)
    }
    if not names:
        listed = ", ".join(describe(uid, headers) for uid, headers in series.items())
        return CTSeries({}, f"no CT series in the DICOM folder {folder.name}, but {listed or 'no image'}")
    if len(series) == 1:
        return CTSeries({uid: str(folder) for uid in names})
    return CTSeries({uid: {"path": str(folder), "key": uid} for uid in names})
