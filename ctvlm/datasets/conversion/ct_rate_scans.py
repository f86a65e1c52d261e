"""Selection of reconstructions of CT-RATE scans, some of which contain head series as well as chest series."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ctvlm.utils import natural_key

# Minimum field of view of a chest series; the head series of the validation split have at most 259 mm.
MIN_CHEST_MM = 260.0
# Words of a SeriesDescription. "KEMIK" (Turkish: bone) is not used, because chests also have bone kernels.
CHEST_WORDS = re.compile(r"thorax|toraks|chest|lung|akciger|akciğer|hrct|mediast", re.IGNORECASE)
HEAD_WORDS = re.compile(r"head|brain|beyin|kranial|cranial|kafa|sinus|orbit", re.IGNORECASE)


def field_of_view(row: dict[str, str], spacing: tuple[float, float, float] | None) -> float | None:
    """Return the field of view in mm: ReconstructionDiameter, else columns times voxel size, else None."""
    for text, factor in ((row.get("ReconstructionDiameter"), 1.0), (row.get("Columns"), spacing and spacing[2])):
        try:
            value = float(text or "") * (factor or 0.0)
        except ValueError:
            continue
        if value > 0:
            return value
    return None


def shows_chest(row: dict[str, str] | None, spacing: tuple[float, float, float] | None) -> bool | None:
    """Return whether a volume shows a chest according to its metadata; None if unknown.

    The series description is used if it contains a body part, otherwise the field of view.
    """
    if row is None:
        return None
    description = row.get("SeriesDescription") or ""
    if HEAD_WORDS.search(description):
        return False
    if CHEST_WORDS.search(description):
        return True
    width = field_of_view(row, spacing)
    return None if width is None else width >= MIN_CHEST_MM


def representative(volumes: Iterable[str], chest: dict[str, bool | None]) -> tuple[str | None, bool]:
    """Choose the representative volume of a scan.

    This is the first reconstruction that shows a chest, otherwise the first with an unknown body part, otherwise None.

    Returns:
        The volume, and whether its body part is known.
    """
    ordered = sorted(volumes, key=natural_key)
    for wanted in (True, None):
        for volume in ordered:
            if chest.get(volume) is wanted:
                return volume, wanted is True
    return None, True


class VolumeFacts(NamedTuple):
    """Facts on a volume that define evaluation sets; ``voxel`` is the voxel volume in mm3."""

    scan: str
    chest: bool | None
    voxel: float | None
    findings: str


def evaluation_sets(volumes: dict[str, VolumeFacts]) -> dict[str, set[str]]:
    """Return the volumes of each published evaluation set of CT-RATE.

    - ``all``: every volume;
    - ``first``: the first reconstruction of each scan, with or without a chest;
    - ``nohead``: every volume except those known to show no chest;
    - ``colipri``: the volume with the smallest voxels of each scan. Scans with any volume without a chest are excluded,
      and equal findings texts are used once.
    """
    scans: dict[str, list[str]] = {}
    for volume in sorted(volumes, key=natural_key):
        scans.setdefault(volumes[volume].scan, []).append(volume)
    colipri: set[str] = set()
    texts: set[str] = set()
    for scan_volumes in scans.values():
        text = volumes[scan_volumes[0]].findings
        if any(volumes[volume].chest is False for volume in scan_volumes) or (text and text in texts):
            continue
        texts.add(text)
        colipri.add(min(scan_volumes, key=lambda volume: volumes[volume].voxel or float("inf")))
    return {
        "all": set(volumes),
        "first": {scan_volumes[0] for scan_volumes in scans.values()},
        "nohead": {volume for volume, facts in volumes.items() if facts.chest is not False},
        "colipri": colipri,
    }
