"""Identify models and inputs, so that finished cases of an earlier run can be kept."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch

from ctvlm.apis.case_input import InputCase
from ctvlm.apis.inferencer import Inferencer
from ctvlm.volume import CTVolume
from ctvlm.volume.files import is_url, local


def model_checksum(inferencer: Inferencer) -> str:
    """SHA-256 of the weights, the model's config and the transforms of the input."""
    digest = hashlib.sha256()
    for name, tensor in sorted(inferencer.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    settings = [inferencer.model.cfg.model.to_dict(), inferencer.read.settings, inferencer.read.scheme.fingerprint]
    digest.update(json.dumps(settings, sort_keys=True, default=repr).encode())
    return digest.hexdigest()


def case_fingerprint(case: InputCase, *settings: Any) -> str:
    """Hash of a case, the sizes and times of its files, and ``settings``."""
    entry = {key: case.entry.get(key) for key in ("case_id", "volume", "region_map")}
    stats = [_stat(path) for path in _paths(entry)]
    text = json.dumps([entry, stats, settings], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _paths(entry: dict[str, Any]) -> list[str]:
    volume, mask = entry["volume"], entry["region_map"] or {}
    paths = [] if isinstance(volume, CTVolume) else [volume["path"] if isinstance(volume, dict) else volume]
    return [str(path) for path in (*paths, *([mask["path"]] if "path" in mask else mask.get("files", {}).values()))]


def _stat(path: str) -> list[Any] | None:
    """Size and time of a file, or of the files in a DICOM folder; None if it does not exist."""
    if is_url(path):
        fs, name = fsspec.core.url_to_fs(path)
        found = fs.info(name) if fs.exists(name) else {}
        return [str(found.get(key)) for key in ("size", "mtime", "LastModified", "ETag", "updated")]
    here = local(path)
    files = sorted(here.iterdir()) if here.is_dir() else [here]
    try:
        stats = [os.stat(file) for file in files]
    except OSError:
        return None
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


def _plain(value: Any) -> Any:
    if isinstance(value, CTVolume):
        content = np.ascontiguousarray(value.array)
        return [hashlib.sha256(content.tobytes()).hexdigest(), str(content.dtype), value.shape, value.affine.tolist()]
    return str(value) if isinstance(value, Path) else repr(value)
