"""The state of mmengine's MessageHub in a checkpoint."""

from __future__ import annotations

import math
import re
from pathlib import PurePath, PureWindowsPath
from typing import Any

from mmengine.logging import HistoryBuffer

from ctvlm.engine.checkpoint.files import CheckpointError, to_plain

# Entries of ``runtime_info`` with the path of a checkpoint; only the name of the file is stored.
_FILES = re.compile(r"last_ckpt|best_ckpt(_.+)?")
_BEST = re.compile(r"best_[^/\\]+\.pth")


def pack_message_hub(state: dict) -> dict:
    """Convert the state of mmengine's MessageHub to plain containers, and paths of checkpoints to names.

    Values that cannot be converted are dropped.
    """
    scalars = {
        key: {"values": buffer.data[0].tolist(), "counts": buffer.data[1].tolist()}
        for key, buffer in state["log_scalars"].items()
    }
    info = {}
    for key, value in state["runtime_info"].items():
        try:
            info[key] = _name(str(value)) if value and _FILES.fullmatch(key) else to_plain(value)
        except TypeError:  # for example an object that a metric returned; resuming does not need it
            continue
    resumed_keys = {key: flag for key, flag in state["resumed_keys"].items() if key in scalars or key in info}
    return {"log_scalars": scalars, "runtime_info": info, "resumed_keys": resumed_keys}


def unpack_message_hub(state: Any, path: Any = "") -> dict:
    """Inverse of ``pack_message_hub`` for the entries that a resumed run needs.

    These are the logged scalars; scores and names of the best checkpoints; numbers of the kept checkpoints; and other
    numbers. Names never contain a folder.

    Raises:
        CheckpointError: an entry has a wrong type.
    """
    if not isinstance(state, dict) or not all(
        isinstance(state.get(key), dict) for key in ("log_scalars", "runtime_info")
    ):
        raise CheckpointError(f"checkpoint {path}: message_hub has no log_scalars and runtime_info")
    scalars = {}
    for key, item in state["log_scalars"].items():
        if not (isinstance(key, str) and isinstance(item, dict) and _history(item.get("values"), item.get("counts"))):
            raise CheckpointError(f"checkpoint {path}: message_hub.log_scalars.{key} is not a list of numbers")
        scalars[key] = HistoryBuffer(item["values"], item["counts"])
    info = {key: kept for key, value in state["runtime_info"].items() if (kept := _kept(key, value)) is not None}
    return {"log_scalars": scalars, "runtime_info": info, "resumed_keys": dict.fromkeys([*scalars, *info], True)}


def _kept(key: Any, value: Any) -> Any:
    """Value of a known entry of ``runtime_info``; None for another entry or a wrong type."""
    if not isinstance(key, str) or key == "last_ckpt":
        return None
    if _FILES.fullmatch(key):
        name = _name(value) if isinstance(value, str) else ""
        return name if _BEST.fullmatch(name) else None
    if key == "keep_ckpt_ids":
        return value if isinstance(value, list) and all(type(item) is int and item >= 0 for item in value) else None
    return value if type(value) in (bool, int, float) else None


def _name(path: str) -> str:
    """Last part of a path of any system."""
    return PureWindowsPath(PurePath(path).name).name


def _history(values: Any, counts: Any) -> bool:
    """Whether these are the two lists of a HistoryBuffer."""
    if not (isinstance(values, list) and isinstance(counts, list) and len(values) == len(counts)):
        return False
    numbers = all(type(value) in (int, float) for value in values)
    return numbers and all(type(count) in (int, float) and math.isfinite(count) for count in counts)
