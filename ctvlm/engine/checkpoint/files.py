"""Read and write checkpoints that contain only tensors and plain containers."""

from __future__ import annotations

import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from torch import Tensor

from ctvlm.engine.checkpoint.renames import present_weight_names
from ctvlm.utils import CTVLMError, atomic_write

_PLAIN = (str, bytes, int, float, bool, type(None), Tensor, torch.dtype, torch.Size, torch.device)


class CheckpointError(CTVLMError):
    """A checkpoint that cannot be read or does not fit the model."""


class AtomicLocalBackend(LocalBackend):
    """Local storage with atomic writes: a file appears under its name only when it is complete."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes atomically and flush them to the disk."""
        with atomic_write(filepath, sync=True) as part:
            part.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Like ``put``, for text."""
        self.put(obj.encode(encoding), filepath)


# mmengine's CheckpointHook passes `backend_args` to the function that writes the file.
ATOMIC_BACKEND = {"backend": "ctvlm_atomic_local"}
register_backend(ATOMIC_BACKEND["backend"], AtomicLocalBackend, force=True)


def json_text(content: dict | list) -> str:
    """JSON document with a final newline. NumPy and torch values are converted; NaN and infinity become null."""

    def jsonable(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): jsonable(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [jsonable(item) for item in value]
        if hasattr(value, "tolist"):
            return jsonable(value.tolist())
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(jsonable(content), indent=2, allow_nan=False) + "\n"


def write_json(path: str | Path, content: dict | list) -> None:
    """Write a JSON file atomically, see ``json_text``."""
    AtomicLocalBackend().put_text(json_text(content), path)


def to_plain(value: Any, name: str = "checkpoint") -> Any:
    """Convert nested containers to types that ``torch.load(weights_only=True)`` accepts.

    NumPy scalars become Python numbers, arrays become tensors, paths become strings, and subclasses of dict become
    plain dicts.

    Args:
        name: key of the value in the checkpoint, for the error message.

    Raises:
        TypeError: a value has another type; the message contains its key.
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
        f"{name}: found a {type(value).__module__}.{type(value).__qualname__}; a checkpoint may contain only tensors, "
        "numbers, strings and containers of them, so that it can be loaded safely"
    )


def pack_message_hub(state: dict) -> dict:
    """Convert the state of mmengine's MessageHub to plain containers; values that cannot be converted are dropped."""
    scalars = {
        key: {"values": buffer.data[0].tolist(), "counts": buffer.data[1].tolist()}
        for key, buffer in state["log_scalars"].items()
    }
    info = {}
    for key, value in state["runtime_info"].items():
        try:
            info[key] = to_plain(value)
        except TypeError:  # for example an object that a metric returned; resuming does not need it
            continue
    resumed_keys = {key: flag for key, flag in state["resumed_keys"].items() if key in scalars or key in info}
    return {"log_scalars": scalars, "runtime_info": info, "resumed_keys": resumed_keys}


def unpack_message_hub(state: dict) -> dict:
    """Inverse of ``pack_message_hub``."""
    scalars = {key: HistoryBuffer(item["values"], item["counts"]) for key, item in state["log_scalars"].items()}
    return {**state, "log_scalars": scalars}


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict:
    """Read a checkpoint that contains only tensors and plain containers.

    Raises:
        CheckpointError: the file is missing or truncated, contains pickled objects, or contains no weights.
    """
    path = Path(path).expanduser()
    if "://" in str(path) or str(path).startswith(("http:", "https:", "torchvision:", "open-mmlab:")):
        raise CheckpointError(f"checkpoint {path} is not a local file: download it and pass the path of the file")
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path} is a folder; expected a file, such as epoch_1.pth")
    if not path.is_file():
        raise CheckpointError(f"checkpoint not found: {path}{_other_checkpoints(path)}")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"checkpoint {path} ({path.stat().st_size:,} bytes) cannot be read: {_reason(error)} "
            f"The file is truncated, or contains more than tensors and plain containers.{_other_checkpoints(path)}"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        content = sorted(map(str, checkpoint))[:5] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise CheckpointError(f"checkpoint {path} contains no 'state_dict': found {content}")
    checkpoint["state_dict"] = present_weight_names(checkpoint["state_dict"])
    return checkpoint


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if unsafe := re.search(r"GLOBAL (\S+)", text):  # torch would recommend to load the file unsafely
        return f"it contains a {unsafe[1]}."
    if "weights_only" in text:  # as above
        return "it is no PyTorch file."
    return text.splitlines()[0] if text else type(error).__name__


def _other_checkpoints(path: Path) -> str:
    others = sorted(p.name for p in path.parent.glob("*.pth") if p != path) if path.parent.is_dir() else []
    return f" Other checkpoints in the folder: {', '.join(others[:5])}." if others else ""
