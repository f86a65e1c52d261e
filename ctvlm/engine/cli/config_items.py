"""Dotted keys of a config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def config_items(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested dicts and lists."""
    pairs = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    for key, item in pairs:
        yield f"{prefix}{key}", item
        yield from config_items(item, f"{prefix}{key}.")
