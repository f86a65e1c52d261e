"""Identify models and inputs, so that finished cases of an earlier run can be kept."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ctvlm.apis.case_input import InputCase
from ctvlm.utils.described import described
from ctvlm.volume import CTVolume
from ctvlm.volume.files import exists, filesystem, is_url, local

if TYPE_CHECKING:
    from ctvlm.apis.inferencer import Inferencer


def model_checksum(inferencer: Inferencer) -> str:
    """SHA-256 of the weights, the model's config and the transforms of the input."""
    digest = hashlib.sha256()
    for name, tensor in sorted(inferencer.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    settings = [inferencer.model.cfg.model.to_dict(), inferencer.read.settings, inferencer.read.scheme.fingerprint]
    digest.update(json.dumps(settings, sort_keys=True, default=described).encode())
    return digest.hexdigest()


def case_key(case: InputCase) -> str:
    """Identify the CT of a case in all runs: its resolved path and DICOM series, or the hash of an array.

    The case id only identifies a CT within one call of ``find_cases``.
    """
    volume = case.entry["volume"]
    if isinstance(volume, CTVolume):
        return f"sha256:{_content(volume)}"
    series = volume.get("key") if isinstance(volume, dict) else None
    return resolved(case.path) + (f"#{series}" if series else "")


def case_fingerprint(case: InputCase, *settings: Any) -> str:
    """Hash of the CT and the mask of a case (paths, sizes and times of files, or contents), and ``settings``."""
    entry = [_located(case.entry["volume"]), _located(case.entry.get("region_map"))]
    stats = [_stat(path) for path in _paths(case.entry)]
    text = json.dumps([entry, stats, settings], sort_keys=True, default=described)
    return hashlib.sha256(text.encode()).hexdigest()


def outdated(case: InputCase) -> bool:
    """Whether results of an earlier run are outdated if a case fails; not if its CT is missing, as on a lost disk."""
    return not case.path or exists(case.path)


def resolved(path: str | Path) -> str:
    """Absolute path without links; "" and URLs stay unchanged."""
    return str(path) if not str(path) or is_url(path) else str(local(path).resolve())


def _located(item: Any) -> Any:
    """A CT or mask with resolved paths; arrays are replaced by their hash."""
    if isinstance(item, CTVolume):
        return _content(item)
    if isinstance(item, dict):
        out = {key: _located(value) if key in ("path", "volume") else value for key, value in item.items()}
        if "files" in item:
            out["files"] = {name: resolved(path) for name, path in item["files"].items()}
        return out
    return resolved(item) if isinstance(item, (str, Path)) else item


def _paths(entry: dict[str, Any]) -> list[str]:
    volume, mask = entry["volume"], entry.get("region_map") or {}
    paths = [] if isinstance(volume, CTVolume) else [volume["path"] if isinstance(volume, dict) else volume]
    return [str(path) for path in (*paths, *([mask["path"]] if "path" in mask else mask.get("files", {}).values()))]


def _stat(path: str) -> list[Any] | None:
    """Size and time of a file, or of the files in a DICOM folder; None if it does not exist."""
    if is_url(path):
        fs, name = filesystem(path)
        found = fs.info(name) if fs.exists(name) else {}
        return [str(found.get(key)) for key in ("size", "mtime", "LastModified", "ETag", "updated")]
    here = local(path)
    files = sorted(here.iterdir()) if here.is_dir() else [here]
    try:
        stats = [os.stat(file) for file in files]
    except OSError:
        return None
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


def _content(volume: CTVolume) -> str:
    array = np.ascontiguousarray(volume.array)
    digest = hashlib.sha256(f"{array.dtype} {array.shape} {volume.affine.tolist()}".encode())
    digest.update(array.data)
    return digest.hexdigest()
