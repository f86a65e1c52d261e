"""Records of how a run was started, for work folders and checkpoints. Environment variables are not recorded."""

from __future__ import annotations

import platform
import sys
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import torch

from ctvlm.utils.code_version import code_version
from ctvlm.utils.env import describe_device

PACKAGES = ("mmengine", "transformers", "timm", "numpy")
# Checkpoints contain the latest ones.
MAX_RECORDS = 100
_TYPES: dict[str, Any] = dict(
    started=str,
    command=list,
    ctvlm=dict,
    versions=dict,
    platform=str,
    device=str,
    seed=int,
    processes=int,
    iteration=int,
    loaded=(str, type(None)),
)
_MAX_ITEMS, _MAX_TEXT = 1000, 10_000


def run_record(seed: int, processes: int, iteration: int, loaded: str | None) -> dict[str, Any]:
    """Record of this process in plain containers.

    Args:
        seed: of the run.
        processes: number of processes of the run.
        iteration: number of iterations of earlier processes.
        loaded: name of the checkpoint that was loaded.
    """
    return dict(
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=list(sys.orig_argv),
        ctvlm=code_version(),
        versions={"python": platform.python_version(), "torch": str(torch.__version__), **_versions()},
        platform=platform.platform(),
        device=describe_device(),
        seed=seed,
        processes=processes,
        iteration=iteration,
        loaded=loaded,
    )


def known_records(records: Any) -> list[dict[str, Any]]:
    """The valid records of a checkpoint that others may have written."""
    return [record for record in records if _is_record(record)] if isinstance(records, list) else []


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or record.keys() != _TYPES.keys():
        return False
    fits = all(isinstance(record[key], kind) and not isinstance(record[key], bool) for key, kind in _TYPES.items())
    return fits and all(_is_plain(value) for value in record.values())


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, or a list or dictionary of them."""
    values = value.values() if isinstance(value, dict) else []
    items = [*value, *values] if isinstance(value, (list, dict)) else [value]
    texts = all(len(item) <= _MAX_TEXT for item in items if isinstance(item, str))
    return len(items) <= _MAX_ITEMS and texts and all(type(item) in (str, int, bool, type(None)) for item in items)
