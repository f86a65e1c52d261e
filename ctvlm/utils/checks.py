"""Validation of options."""

from __future__ import annotations

from collections.abc import Collection


def check_choice(owner: str, name: str, value: str, choices: Collection[str]) -> None:
    """Raise ValueError if ``value`` is not one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{owner}: found {name}={value!r}; expected one of {sorted(choices)}.")
