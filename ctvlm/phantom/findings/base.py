"""What a finding is, and the table of all of them.

A finding is declared in one place: a decorated drawing function. The decorator says which CT-RATE label it sets,
where it can sit, how large it can be and how it is worded; the function paints it. A finding that changes an organ as
a whole says how the patient changes (``modify``) and its function only marks the organ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from ctvlm.phantom.canvas import Box, Canvas
from ctvlm.phantom.patient import Patient
from ctvlm.text.finding_labels import CT_RATE_LABELS


@dataclass(frozen=True)
class Site:
    """Where a finding can be: the regions it touches, how a radiologist calls the place, the z range it needs (mm).

    ``key`` is what the drawing function goes by (a side, a level, a point). ``claims`` are further regions in which
    no other finding may lie, because this one would cover it.
    """

    regions: tuple[str, ...]
    words: tuple[str, ...]
    key: object = None
    z: tuple[float, float] = (-60.0, 130.0)
    claims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One finding of one case. ``amount`` lies in the type's size range and is what is drawn."""

    kind: str
    site: Site
    size: str
    amount: float
    lesion: int
    seed: int


Draw = Callable[[Canvas, Finding], None]
Modify = Callable[[Patient, Finding], Patient]


@dataclass(frozen=True)
class FindingType:
    """A row of the table. ``sizes`` maps a category to the range of ``amount``; templates take {loc} and {size}."""

    name: str
    draw: Draw
    label: str | None
    sites: tuple[Site, ...]
    sizes: dict[str, tuple[float, float]]
    steps: tuple[str, ...]
    impressions: tuple[str, ...]
    section: str
    weight: float = 1.0
    modify: Modify | None = None


FINDINGS: dict[str, FindingType] = {}


def finding(name: str, **declaration) -> Callable[[Draw], Draw]:
    """Register a drawing function as a finding; see `FindingType` for the fields."""

    def register(draw: Draw) -> Draw:
        if name in FINDINGS:
            raise ValueError(f"finding {name!r} is declared twice")
        label = declaration.get("label")
        if label is not None and label not in CT_RATE_LABELS:
            raise ValueError(f"finding {name!r} has label {label!r}, which is not one of CT-RATE's 18")
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in declaration.items()}
        fields.setdefault("label", None)
        FINDINGS[name] = FindingType(name=name, draw=draw, **fields)
        return draw

    return register


def mark_region(canvas: Canvas, finding: Finding, *ids: int) -> None:
    """Mark whole organs as the lesion."""
    for i in ids:
        canvas.lesion[canvas.region == i] = finding.lesion


def within(canvas: Canvas, ids: Iterable[int]) -> Callable[[Box], np.ndarray]:
    """A mask, as a function of the box, of the voxels in these regions."""
    table = np.zeros(256, bool)
    table[list(ids)] = True
    return lambda box: table[canvas.region[box]]


def outside(canvas: Canvas, ids: Iterable[int]) -> Callable[[Box], np.ndarray]:
    """A mask, as a function of the box, of the voxels in none of these regions."""
    table = np.ones(256, bool)
    table[list(ids)] = False
    return lambda box: table[canvas.region[box]]


def grow(*names: str) -> Modify:
    """A modifier that multiplies sizes (those named, else the site's key) by the finding's amount."""

    def modify(patient: Patient, f: Finding) -> Patient:
        return replace(patient, size={**patient.size, **dict.fromkeys(names or (f.site.key,), f.amount)})

    return modify
