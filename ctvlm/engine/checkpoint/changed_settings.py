"""Tell which settings of a resumed run differ from those of its checkpoint, and which are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from ctvlm.engine.checkpoint.config_text import parse_config_text
from ctvlm.engine.checkpoint.portable_config import RUN_SETTINGS

# A resumed run restores these from the checkpoint; all others come from the config.
RESTORED = ("optim_wrapper.optimizer.", "param_scheduler", "randomness.seed")
_LISTED = 8


def changed_settings(cfg: Config, checkpoint: dict) -> tuple[list[str], list[str]]:
    """Settings that differ: those whose value in the checkpoint is used, and those whose value in the config is used.

    Each is ``key=value (checkpoint: value)``. Both lists are empty if the checkpoint has no config.
    """
    text = checkpoint["meta"].get("cfg")
    try:
        before = dict(_items(parse_config_text(text))) if isinstance(text, str) else None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        before = None
    if before is None:
        return [], []
    plain = (str, int, float, bool, type(None), list, tuple, dict)
    now = {key: value for key, value in _items(cfg.to_dict()) if isinstance(value, plain)}
    lists: tuple[list[str], list[str]] = ([], [])
    for key in [*now, *(key for key in before if key not in now)]:
        if key.split(".")[0] in RUN_SETTINGS or _same(now.get(key, _NONE), before.get(key, _NONE)):
            continue
        change = f"{key}={now.get(key, _NONE)!r} (checkpoint: {before.get(key, _NONE)!r})"
        lists[0 if key.startswith(RESTORED) else 1].append(change)
    return lists


def describe_changes(cfg: Config, checkpoint: dict) -> list[str]:
    """Warnings about ``changed_settings``, one line each."""
    restored, configured = changed_settings(cfg, checkpoint)
    lines = []
    if restored:
        lines.append(f"The checkpoint's value is used, not the config's, for: {_listing(restored)}")
    if configured:
        lines.append(f"The config differs from that of the checkpoint, and is used, for: {_listing(configured)}")
    return lines


class _Missing:
    def __repr__(self) -> str:
        return "not set"


_NONE = _Missing()


def _same(value: Any, other: Any) -> bool:
    """Whether two values are equal; all empty containers are."""
    containers = (dict, list, tuple)
    return value == other or isinstance(value, containers) and isinstance(other, containers)


def _listing(changes: list[str]) -> str:
    more = f" and {len(changes) - _LISTED} more" if len(changes) > _LISTED else ""
    return "; ".join(change[:200] for change in changes[:_LISTED]) + more


def _items(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested dicts and lists; an empty container is a value."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, (dict, list, tuple)):
        pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
    if not pairs and prefix:
        yield prefix[:-1], value
    for key, item in pairs:
        yield from _items(item, f"{prefix}{key}.")
