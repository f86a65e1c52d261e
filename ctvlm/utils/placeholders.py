"""Placeholders for missing text."""

from __future__ import annotations

PLACEHOLDERS = {"", "not given", "nan", "none", "null", "nil", "n/a", "na", "n.a"}


def is_missing(text: str | None) -> bool:
    """Whether a text is empty or a placeholder such as "Not given.", "N/A" or "-"; ignores case and white space."""
    return " ".join((text or "").split()).lower().strip(" .-–—_") in PLACEHOLDERS
