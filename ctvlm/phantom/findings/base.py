"""Types of findings and the registry of all findings.

A finding is declared in one place: a decorated drawing function. The decorator gives its CT-RATE label, its possible
sites and sizes, and its wording; the function draws it. A finding that changes a whole organ gives ``modify``, which
changes the patient; its function only marks the organ as the lesion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ctvlm.phantom.canvas import Box, Canvas
from ctvlm.phantom.patient import Patient
from ctvlm.text.finding_labels import CT_RATE_LABELS


@dataclass(frozen=True)
class Site:
    """A possible location of a finding.

    Attributes:
        regions: names of the regions that the finding touches.
        words: phrases for the location in the report.
        key: what the drawing function needs to find the location: a side, vertebral levels, a point, region ids.
        z: template z range (mm) that must be in the scan.
        claims: further regions in which no other finding is drawn, because this one would cover it.
    """

    regions: tuple[str, ...]
    words: tuple[str, ...]
    key: Any = None
    z: tuple[float, float] = (-60.0, 130.0)
    claims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One finding of one case. ``amount`` is the drawn size, within the range of the size category ``size``."""

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
    """Declaration of a finding.

    Attributes:
        draw: draws the finding on a canvas.
        label: CT-RATE label that the finding sets, or None.
        sizes: size category to the range of ``amount``.
        steps, impressions: sentence templates with ``{loc}`` and ``{size}`` (see ``reasoning.phrase``).
        section: section of the report, one of ``phrases.SECTIONS``.
        weight: relative frequency.
        modify: changes the patient before the anatomy is drawn, for findings of a whole organ.
    """

    name: str
    draw: Draw
    label: str | None
    sites: tuple[Site, ...]
    sizes: Mapping[str, tuple[float, float]]
    steps: tuple[str, ...]
    impressions: tuple[str, ...]
    section: str
    weight: float = 1.0
    modify: Modify | None = None


FINDINGS: dict[str, FindingType] = {}


def finding(
    name: str,
    *,
    sites: Sequence[Site],
    sizes: Mapping[str, tuple[float, float]],
    steps: Sequence[str],
    impressions: Sequence[str],
    section: str,
    label: str | None = None,
    weight: float = 1.0,
    modify: Modify | None = None,
) -> Callable[[Draw], Draw]:
    """Register a drawing function as a finding; see `FindingType` for the arguments.

    Raises:
        ValueError: ``name`` is registered already, or ``label`` is not one of CT-RATE's.
    """

    def register(draw: Draw) -> Draw:
        if name in FINDINGS:
            raise ValueError(f"finding {name!r} is registered twice")
        if label is not None and label not in CT_RATE_LABELS:
            raise ValueError(f"finding {name!r}: found label {label!r}; expected one of {', '.join(CT_RATE_LABELS)}")
        FINDINGS[name] = FindingType(
            name, draw, label, tuple(sites), sizes, tuple(steps), tuple(impressions), section, weight, modify
        )
        return draw

    return register


def mark_region(canvas: Canvas, finding: Finding, *ids: int) -> None:
    """Mark whole organs as the lesion."""
    for i in ids:
        canvas.lesion[canvas.region == i] = finding.lesion


def within(canvas: Canvas, ids: Iterable[int]) -> Callable[[Box], np.ndarray]:
    """Return a function from a box to the mask of its voxels that lie in the given regions."""
    table = np.zeros(256, bool)
    table[list(ids)] = True
    return lambda box: table[canvas.region[box]]


def outside(canvas: Canvas, ids: Iterable[int]) -> Callable[[Box], np.ndarray]:
    """Return a function from a box to the mask of its voxels that lie in none of the given regions."""
    table = np.ones(256, bool)
    table[list(ids)] = False
    return lambda box: table[canvas.region[box]]


def grow(*names: str) -> Modify:
    """Return a modifier that sets the relative sizes of the given organs (default: the site's key) to the amount."""

    def modify(patient: Patient, f: Finding) -> Patient:
        return replace(patient, size={**patient.size, **dict.fromkeys(names or (f.site.key,), f.amount)})

    return modify
