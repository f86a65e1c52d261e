"""Messages for settings that cannot be."""

from __future__ import annotations

from collections.abc import Collection


def check_choice(owner: str, name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value outside ``choices``."""
    if value not in choices:
        raise ValueError(f"{owner}: {name} = {value!r} is unknown; expected one of {sorted(choices)}")
