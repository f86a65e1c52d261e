"""What a converter found on disk, before any file is opened."""

from __future__ import annotations

from dataclasses import dataclass, field


class ConversionError(ValueError):
    """A data set that cannot be converted as asked: names what was found, what was expected, what to do."""


class Dropped(Exception):
    """One case that cannot be kept; the message is the reason."""


@dataclass
class Found:
    """Cases of a data set (raw manifest lines, absolute paths), what was left out and why, and remarks on the whole."""

    cases: list[dict] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
