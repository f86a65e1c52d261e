"""List of the cases that a converter reads from a data set, before any image file is opened."""

from __future__ import annotations

from dataclasses import dataclass, field

from ctvlm.utils import CTVLMError


class ConversionError(CTVLMError, ValueError):
    """A data set that cannot be converted; the message states what was found, what was expected and what to do."""


class DropCase(Exception):
    """Raised to exclude one case; the message is the reason."""


@dataclass
class CaseList:
    """Cases of a data set.

    Attributes:
        cases: raw manifest lines with absolute paths.
        dropped: (case id, reason) of each excluded case.
        notes: remarks on the whole data set.
    """

    cases: list[dict] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
