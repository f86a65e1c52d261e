"""Sorting of names that hold numbers."""

from __future__ import annotations

import re


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key under which ``case_2`` comes before ``case_10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
