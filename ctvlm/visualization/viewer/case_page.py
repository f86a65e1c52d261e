"""Content of a viewer page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ctvlm.anatomy import RegionScheme
from ctvlm.volume import CTVolume


@dataclass(frozen=True)
class PageStep:
    """One reasoning step.

    Attributes:
        regions: names of regions in the scheme.
        confidence: 0 to 1; None for a text of the user.
        attention: attention over the patches, relative to its mean; None if unknown.
        position_mm: position (x, y, z) in mm, RAS+, that the page shows for this step.
    """

    text: str
    regions: Sequence[str] = ()
    confidence: float | None = None
    attention: CTVolume | None = None
    position_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class PageCase:
    """A similar case of a search index.

    Attributes:
        similarity: cosine similarity to the case of the page.
        text: report or impression of the case.
    """

    case_id: str
    similarity: float
    text: str = ""


@dataclass(frozen=True)
class CasePage:
    """Everything that a page shows.

    Attributes:
        ct: HU, RAS+, with any affine.
        scheme: regions of ``regions`` and of the steps.
        regions: region ids on any grid; None without regions.
        region_origin: origin of the regions, such as ``mask`` or ``predicted``.
        step_origin: origin of the steps, such as ``generated`` or ``given``.
        impression: text below the steps.
        findings: finding to its probability.
        metadata: names and values, in order.
        remark: reason not to trust the model on this case; "" if there is none.
    """

    case_id: str
    ct: CTVolume
    scheme: RegionScheme
    regions: CTVolume | None = None
    region_origin: str = ""
    steps: Sequence[PageStep] = ()
    step_origin: str = ""
    impression: str = ""
    findings: Mapping[str, float] = field(default_factory=dict)
    similar: Sequence[PageCase] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""
