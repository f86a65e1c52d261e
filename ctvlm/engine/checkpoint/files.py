"""Checkpoints: plain containers inside, written whole or not at all."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from torch import Tensor

from ctvlm.utils import CTVLMError, atomic_write

_PLAIN = (str, bytes, int, float, bool, type(None), Tensor, torch.dtype, torch.Size, torch.device)


class CheckpointError(CTVLMError):
    """A checkpoint that cannot be read, or that does not belong to the model."""


class AtomicLocalBackend(LocalBackend):
    """Local files that appear under their name only once they are complete."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes atomically and flush them to the disk."""
        with atomic_write(filepath, sync=True) as part:
            part.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """As ``put``, for text."""
        self.put(obj.encode(encoding), filepath)


# mmengine hands `backend_args` from its CheckpointHook down to the place that writes the bytes.
ATOMIC_BACKEND = {"backend": "ctvlm_atomic_local"}
register_backend(ATOMIC_BACKEND["backend"], AtomicLocalBackend, force=True)


def write_json(path: str | Path, content: dict) -> None:
    """Write a JSON file, whole or not at all; NumPy's and torch's numbers become Python's, and NaN null."""

    def jsonable(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): jsonable(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [jsonable(item) for item in value]
        if hasattr(value, "tolist"):
            return jsonable(value.tolist())
        return None if isinstance(value, float) and not math.isfinite(value) else value

    AtomicLocalBackend().put_text(json.dumps(jsonable(content), indent=2, allow_nan=False) + "\n", path)


def to_plain(value: Any, name: str = "checkpoint") -> Any:
    """Rebuild nested containers from what ``torch.load(weights_only=True)`` accepts.

    NumPy scalars become Python numbers, arrays tensors, paths strings, and subclasses of dict plain dicts.
    Raises TypeError, naming the place, for anything else.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value.copy())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {to_plain(key, name): to_plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        kind = next(kind for kind in (list, tuple, set) if isinstance(value, kind))
        return kind(to_plain(item, f"{name}[{i}]") for i, item in enumerate(value))
    raise TypeError(
        f"{name} is a {type(value).__module__}.{type(value).__qualname__}, which a checkpoint cannot hold: "
        "only tensors, numbers, strings and containers of them can be read back safely"
    )


def pack_message_hub(state: dict) -> dict:
    """State of mmengine's MessageHub with its HistoryBuffers as lists, without what cannot be plain."""
    scalars = {
        key: {"values": buffer.data[0].tolist(), "counts": buffer.data[1].tolist()}
        for key, buffer in state["log_scalars"].items()
    }
    info = {}
    for key, value in state["runtime_info"].items():
        try:
            info[key] = to_plain(value)
        except TypeError:  # e.g. an object that a metric returned; it is in the log, and no resume needs it
            continue
    kept = {key: flag for key, flag in state["resumed_keys"].items() if key in scalars or key in info}
    return {"log_scalars": scalars, "runtime_info": info, "resumed_keys": kept}


def unpack_message_hub(state: dict) -> dict:
    """Inverse of ``pack_message_hub``."""
    scalars = {key: HistoryBuffer(item["values"], item["counts"]) for key, item in state["log_scalars"].items()}
    return {**state, "log_scalars": scalars}


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict:
    """Read a checkpoint of tensors and plain containers.

    Raises:
        CheckpointError: there is no such file, it is truncated, it holds pickled objects, or no weights.
    """
    path = Path(path).expanduser()
    if "://" in str(path) or str(path).startswith(("http:", "https:", "torchvision:", "open-mmlab:")):
        raise CheckpointError(f"checkpoint {path} is not a local file: download it first and give its path")
    if not path.is_file():
        raise CheckpointError(f"checkpoint not found: {path}{_neighbours(path)}")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"checkpoint {path} ({path.stat().st_size:,} bytes) cannot be read: {reason} "
            f"It is truncated, or holds more than tensors and plain containers.{_neighbours(path)}"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        found = sorted(map(str, checkpoint))[:5] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise CheckpointError(f"checkpoint {path} holds no 'state_dict': found {found}")
    return checkpoint


def _neighbours(path: Path) -> str:
    others = sorted(p.name for p in path.parent.glob("*.pth") if p != path) if path.parent.is_dir() else []
    return f" Other checkpoints there: {', '.join(others[:5])}." if others else ""
