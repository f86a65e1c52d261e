"""Predictions on disk, to be scored again without the model.

A dump is a torch file of tensors and plain containers: ``torch.load(weights_only=True)`` reads it, no code in it can
run. Label maps, mostly zero, are run-length coded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctvlm.utils import atomic_write

_FORMAT = "ctvlm-predictions"
_VERSION = 2
# Keys that older versions wrote under another name.
_RENAMED = {"pred_image": "pred_volume"}


def save_dump(
    path: str | Path,
    cases: Sequence[Mapping[str, Any]],
    prompts: Mapping[str, Any] | None = None,
    scale: float = 1.0,
    remark: str = "",
) -> None:
    """Write data samples (as dicts) to a .pt file, atomically.

    Args:
        prompts: text to embedding (P) of the zero-shot prompts, with the model's logit ``scale``.
        remark: a warning about scores of these predictions.

    Raises:
        ValueError: for a value that no dump can hold, naming the case and the key.
    """
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "cases": [encode_case(case) for case in cases],
        "prompts": {text: torch.as_tensor(vector).detach().cpu() for text, vector in (prompts or {}).items()},
        "scale": float(scale),
        "remark": remark,
    }
    with atomic_write(path) as part:
        torch.save(content, part)


def load_dump(path: str | Path) -> dict[str, Any]:
    """``cases`` (list of dicts, as metrics take them), ``prompts``, ``scale`` and ``remark`` of a dump.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no dump, or of a later version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a dump is written by the metric DumpPredictions.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is not a dump of predictions ({type(error).__name__}): expected {_FORMAT}."
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a dump of predictions: expected {_FORMAT}, as DumpPredictions writes.")
    if content["version"] > _VERSION:
        raise ValueError(f"{path} has version {content['version']}; this ctvlm reads up to {_VERSION}: update it.")
    renamed = _RENAMED if content["version"] < 2 else {}
    cases = [{renamed.get(key, key): _restored(value) for key, value in case.items()} for case in content["cases"]]
    kept = {"prompts": content["prompts"], "scale": content["scale"], "remark": content.get("remark", "")}
    return {"cases": cases, **kept}


def encode_case(case: Mapping[str, Any]) -> dict[str, Any]:
    """A data sample in tensors and plain containers, label maps run-length coded; its own encoding stays as it is."""
    return {key: _plain(value, f"{case.get('case_id')}: {key}") for key, value in case.items()}


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (torch.Tensor, np.ndarray)):
        tensor = torch.as_tensor(value).detach().cpu()
        # clone: a view would be saved with all of its storage.
        return _runs(tensor) if tensor.ndim == 3 and tensor.dtype == torch.uint8 else tensor.clone()
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value), where)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, where) for item in value]
    raise ValueError(
        f"{where} is a {type(value).__name__}: a dump holds tensors, numbers, text and containers of them."
    )


def _runs(labels: torch.Tensor) -> dict[str, Any]:
    """A label map as the lengths and values of its runs."""
    flat = labels.flatten()
    values, lengths = torch.unique_consecutive(flat, return_counts=True)
    return {"run_lengths": lengths.to(torch.int32), "run_values": values, "shape": list(labels.shape)}


def _restored(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"run_lengths", "run_values", "shape"}:
        return torch.repeat_interleave(value["run_values"], value["run_lengths"].long()).reshape(value["shape"])
    return value
