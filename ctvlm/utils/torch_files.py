"""Size checks of files that torch.save wrote, for files from others."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctvlm.utils.limits import excess


def oversized_records(path: str | Path) -> str | None:
    """Why a zip file would unpack to more than its own size, else None.

    torch.save does not compress, so the records of its files are together smaller than the file. Call this before
    ``torch.load``, which reads compressed and overlapping records.
    """
    size = Path(path).stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(record.file_size for record in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None  # torch.load states what is wrong with the file
    if total <= size:
        return None
    return f"found {total:,} bytes of content in a file of {size:,} bytes; expected records without compression"


def oversized_tensor(content: Any) -> str | None:
    """Why a loaded tensor would take more memory than is stored of it, else None. Small expanded tensors pass."""
    for name, tensor in _tensors(content):
        if tensor.layout is not torch.strided:
            continue
        stored = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() > stored and (problem := excess(tensor.shape, tensor.element_size())):
            return f"{name}: found {problem[0]} with {stored:,} bytes of data; expected {problem[1]}. {problem[2]}"
    return None


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    # Without recursion and each container once: a file can nest containers deeply, share them and contain cycles.
    waiting, seen = [(name, value)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name or "the file", value
        elif isinstance(value, (dict, list, tuple, set)) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{str(key)[:80]}"[-200:].lstrip("."), item) for key, item in items]
