"""Texts that stand for "nothing was written"."""

from __future__ import annotations

PLACEHOLDERS = {"", "not given", "nan", "none", "null", "nil", "n/a", "na", "n.a"}


def is_missing(text: str | None) -> bool:
    """Whether a text is empty or a placeholder such as "Not given.", "N/A", "nil" or "-", in any case and padding."""
    return " ".join((text or "").split()).lower().strip(" .-–—_") in PLACEHOLDERS
