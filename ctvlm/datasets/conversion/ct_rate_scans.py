"""Which reconstruction represents a CT-RATE scan: some scans hold series of the head beside those of the chest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ctvlm.utils import natural_key

# A chest does not fit into less; the head series of the validation split have at most 259 mm.
SMALLEST_CHEST_MM = 260.0
# Words of a SeriesDescription. "KEMIK" (Turkish: bone) alone says nothing: there are bone kernels of the chest.
CHEST_WORDS = re.compile(r"thorax|toraks|chest|lung|akciger|akciğer|hrct|mediast", re.IGNORECASE)
HEAD_WORDS = re.compile(r"head|brain|beyin|kranial|cranial|kafa|sinus|orbit", re.IGNORECASE)


def field_of_view(row: dict[str, str], spacing: tuple[float, float, float] | None) -> float | None:
    """Width of the field of view in mm: ReconstructionDiameter, else columns times voxel size; None if unknown."""
    for text, factor in ((row.get("ReconstructionDiameter"), 1.0), (row.get("Columns"), spacing and spacing[2])):
        try:
            value = float(text or "") * (factor or 0.0)
        except ValueError:
            continue
        if value > 0:
            return value
    return None


def shows_chest(row: dict[str, str] | None, spacing: tuple[float, float, float] | None) -> bool | None:
    """Whether a volume shows a chest by its metadata; None where they do not tell.

    The series description decides where it names a body part, else the field of view.
    """
    if row is None:
        return None
    description = row.get("SeriesDescription") or ""
    if HEAD_WORDS.search(description):
        return False
    if CHEST_WORDS.search(description):
        return True
    width = field_of_view(row, spacing)
    return None if width is None else width >= SMALLEST_CHEST_MM


def representative(volumes: Iterable[str], chest: dict[str, bool | None]) -> tuple[str | None, bool]:
    """The volume that stands for a scan, and whether its choice was by content.

    The first reconstruction that shows a chest; where none is known to, the first that is not known to be another body
    part; None where all are.
    """
    ordered = sorted(volumes, key=natural_key)
    for wanted in (True, None):
        for volume in ordered:
            if chest.get(volume) is wanted:
                return volume, wanted is True
    return None, True


class VolumeFacts(NamedTuple):
    """What an evaluation set asks of a volume; ``voxel`` is the voxel's size in mm3."""

    scan: str
    chest: bool | None
    voxel: float | None
    findings: str


def evaluation_sets(volumes: dict[str, VolumeFacts]) -> dict[str, set[str]]:
    """Volumes of each evaluation set in use on CT-RATE.

    - ``all``: every volume;
    - ``first``: the first reconstruction of each scan, whatever it shows;
    - ``nohead``: every volume but those known to show no chest;
    - ``colipri``: the volume with the smallest voxels of each scan, without scans of which any volume shows no chest,
      and with equal findings texts once.
    """
    scans: dict[str, list[str]] = {}
    for volume in sorted(volumes, key=natural_key):
        scans.setdefault(volumes[volume].scan, []).append(volume)
    colipri: set[str] = set()
    texts: set[str] = set()
    for of_scan in scans.values():
        text = volumes[of_scan[0]].findings
        if any(volumes[volume].chest is False for volume in of_scan) or (text and text in texts):
            continue
        texts.add(text)
        colipri.add(min(of_scan, key=lambda volume: volumes[volume].voxel or float("inf")))
    return {
        "all": set(volumes),
        "first": {of_scan[0] for of_scan in scans.values()},
        "nohead": {volume for volume, facts in volumes.items() if facts.chest is not False},
        "colipri": colipri,
    }
