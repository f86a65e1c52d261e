"""Read and write checkpoints that contain only tensors and plain containers."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from torch import Tensor

from ctvlm.engine.checkpoint.renames import present_weight_names
from ctvlm.utils import atomic_write
from ctvlm.utils.checksum import add_checksum, damage
from ctvlm.utils.errors import CheckpointError
from ctvlm.utils.torch_files import oversized_records, oversized_tensor

_PLAIN = (str, bytes, int, float, bool, type(None), Tensor, torch.dtype, torch.Size, torch.device)


class AtomicLocalBackend(LocalBackend):
    """Local storage with atomic writes: a file appears under its name only when it is complete."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes atomically and flush them to the disk. Checkpoints get a checksum."""
        with atomic_write(filepath, sync=True) as part:
            part.write_bytes(obj)
            if Path(filepath).suffix == ".pth" and zipfile.is_zipfile(part):
                add_checksum(part)

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


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict:
    """Read a checkpoint that contains only tensors and plain containers, and verify its checksum.

    Raises:
        CheckpointError: the file is missing, truncated, damaged or too large, contains pickled objects, contains no
            weights, or has weights that are not finite.
    """
    path = Path(path).expanduser()
    if "://" in str(path) or str(path).startswith(("http:", "https:", "torchvision:", "open-mmlab:")):
        raise CheckpointError(f"checkpoint {path} is not a local file: download it and pass the path of the file")
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path} is a folder; expected a file, such as epoch_1.pth")
    if not path.is_file():
        raise CheckpointError(f"checkpoint not found: {path}{_other_checkpoints(path)}")
    try:
        problem = oversized_records(path) or damage(path)
        checkpoint = None if problem else torch.load(path, map_location=map_location, weights_only=True)
        problem = problem or oversized_tensor(checkpoint)
    except Exception as error:  # the content can be anything
        raise CheckpointError(
            f"checkpoint {path} ({path.stat().st_size:,} bytes) cannot be read: {_reason(error)} "
            f"The file is truncated, or contains more than tensors and plain containers.{_other_checkpoints(path)}"
        ) from error
    if problem:
        raise CheckpointError(
            f"checkpoint {path} is damaged or too large: {problem}. Copy it again, or use another one."
            f"{_other_checkpoints(path)}"
        )
    return _checked(checkpoint, path)


def _checked(checkpoint: Any, path: Path) -> dict:
    weights = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict):
        content = sorted(map(str, checkpoint))[:5] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise CheckpointError(f"checkpoint {path} contains no 'state_dict': found {content}")
    if wrong := [name for name in weights if not isinstance(name, str)]:
        raise CheckpointError(f"checkpoint {path}: found the weight name {wrong[0]!r}; expected text")
    meta = checkpoint["meta"] = checkpoint.get("meta") or {}
    records = meta.get("training_data") or [] if isinstance(meta, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise CheckpointError(f"checkpoint {path}: 'meta' or 'meta.training_data' has a wrong type")
    average = checkpoint.get("ema_state_dict")  # of mmengine's EMAHook
    every = {**average, **weights} if isinstance(average, dict) else weights
    if broken := non_finite_weights(every):
        raise CheckpointError(
            f"checkpoint {path}: {len(broken)} of its {len(every)} weights contain NaN or infinity, such as "
            f"{broken[0]}. Use a checkpoint from before the training diverged.{_other_checkpoints(path)}"
        )
    checkpoint["state_dict"] = present_weight_names(_without_wrappers(weights, checkpoint))
    return checkpoint


def _without_wrappers(weights: dict, checkpoint: dict) -> dict:
    """Remove the prefixes that torch.compile and PyTorch Lightning add to the names of weights."""
    weights = {name.replace("_orig_mod.", ""): weight for name, weight in weights.items()}
    parts = {name.partition(".")[0] for name in weights}
    if "pytorch-lightning_version" in checkpoint and len(parts) == 1:
        (attribute,) = parts  # of the LightningModule that contains the model
        weights = {name.removeprefix(f"{attribute}."): weight for name, weight in weights.items()}
    return weights


def non_finite_weights(state_dict: Mapping[str, Any]) -> list[str]:
    """Names of the weights that contain NaN or infinity."""
    return [
        name
        for name, weight in state_dict.items()
        if isinstance(weight, Tensor) and weight.is_floating_point() and not weight.isfinite().all()
    ]


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
