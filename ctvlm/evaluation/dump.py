"""Dumps: files of predictions that can be scored again without the model.

A dump contains only tensors and plain containers, so that ``torch.load(weights_only=True)`` can load it. Label maps are
run-length encoded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctvlm.utils import atomic_write
from ctvlm.utils.checksum import damage
from ctvlm.utils.limits import excess, excess_bytes
from ctvlm.utils.torch_files import oversized_records, oversized_tensor

_FORMAT = "ctvlm-predictions"
_VERSION = 2
# Keys that had another name in version 1.
_RENAMED = {"pred_image": "pred_volume"}


def save_dump(
    path: str | Path,
    cases: Sequence[Mapping[str, Any]],
    prompts: Mapping[str, Any] | None = None,
    scale: float = 1.0,
    remark: str = "",
    cost: Mapping[str, Any] | None = None,
) -> None:
    """Write data samples (as dicts) to a .pt file.

    Args:
        prompts: zero-shot prompts and their embeddings (P).
        scale: the model's logit scale.
        remark: a warning about the scores of these predictions.
        cost: of the model, as in ``ctvlm.experiments.comparison.cost``.

    Raises:
        ValueError: a value has a type that a dump cannot contain; the message names the case and the key.
    """
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "cases": [encode_case(case) for case in cases],
        "prompts": {text: torch.as_tensor(vector).detach().cpu() for text, vector in (prompts or {}).items()},
        "scale": float(scale),
        "remark": remark,
        "cost": None if cost is None else dict(cost),
    }
    with atomic_write(path) as part, open(part, "wb") as file:
        torch.save(content, file)  # with a path, torch would not state why it cannot write


def is_dump(path: str | Path) -> bool:
    """Whether a file is a dump, and not a checkpoint. False for a file that cannot be loaded."""
    path = Path(path)
    if path.suffix.lower() != ".pt" or not path.is_file() or oversized_records(path) or damage(path):
        return False
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:
        return False
    return isinstance(content, dict) and content.get("format") == _FORMAT


def load_dump(path: str | Path) -> dict[str, Any]:
    """Load ``cases`` (data samples as dicts), ``prompts``, ``scale``, ``remark`` and ``cost`` (or None) of a dump.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a dump, its version is newer than supported, or its content is larger than the
            limits of ``ctvlm.utils.limits``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Write a dump with the metric DumpPredictions.")
    if problem := oversized_records(path) or damage(path):
        raise ValueError(f"{path}: {problem}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: cannot be loaded ({type(error).__name__}); expected {_FORMAT}.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path}: found another format; expected {_FORMAT}, a file of the metric DumpPredictions.")
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= _VERSION:
        raise ValueError(f"{path}: found version {version!r}; expected {_VERSION} or less. Update ctvlm.")
    if problem := oversized_tensor(content):
        raise ValueError(f"{path}: {problem}.")
    renamed = _RENAMED if version < 2 else {}
    try:
        if excess := excess_bytes(sum(_decoded_bytes(item) for case in content["cases"] for item in case.values())):
            raise ValueError(f"found {excess[0]}; expected {excess[1]}; {excess[2]}")
        return {
            "cases": [
                {renamed.get(key, key): _decode(item) for key, item in case.items()} for case in content["cases"]
            ],
            "prompts": content["prompts"],
            "scale": content["scale"],
            "remark": content.get("remark", ""),
            "cost": content.get("cost"),
        }
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: invalid content ({type(error).__name__}: {error}). Write the dump again.") from error


def encode_case(case: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a data sample to tensors and plain containers, with run-length encoded label maps. Idempotent."""
    return {key: _encode(value, f"{case.get('case_id')}: {key}") for key, value in case.items()}


def _encode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (torch.Tensor, np.ndarray)):
        tensor = torch.as_tensor(value).detach().cpu()
        # torch.save would write the whole storage of a view.
        return _run_lengths(tensor) if tensor.ndim == 3 and tensor.dtype == torch.uint8 else tensor.clone()
    if is_dataclass(value) and not isinstance(value, type):
        return _encode(asdict(value), where)
    if isinstance(value, Mapping):
        return {str(key): _encode(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_encode(item, where) for item in value]
    raise ValueError(f"{where}: found a {type(value).__name__}; expected a tensor, number, text or container of them.")


def _run_lengths(labels: torch.Tensor) -> dict[str, Any]:
    """Run-length encode a label map."""
    flat = labels.flatten()
    values, lengths = torch.unique_consecutive(flat, return_counts=True)
    return {"run_lengths": lengths.to(torch.int32), "run_values": values, "shape": list(labels.shape)}


def _is_encoded(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"run_lengths", "run_values", "shape"}


def _decoded_bytes(value: Any) -> int:
    """Memory of a label map after ``_decode``; 0 for other values, which are stored as they are."""
    if not _is_encoded(value):
        return 0
    if problem := excess(value["shape"]):
        raise ValueError(f"found {problem[0]}; expected {problem[1]}; {problem[2]}")
    return max(0, math.prod(int(n) for n in value["shape"])) * value["run_values"].element_size()


def _decode(value: Any) -> Any:
    if _is_encoded(value):
        lengths, shape = value["run_lengths"], value["shape"]
        # In float64, because a sum of integers may overflow.
        if lengths.numel() and (int(lengths.min()) < 0 or lengths.double().sum().item() != math.prod(shape)):
            raise ValueError(f"run lengths that do not fill the shape {shape}")
        return torch.repeat_interleave(value["run_values"], lengths.long()).reshape(shape)
    return value
