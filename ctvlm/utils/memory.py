"""Memory of the host and of accelerators."""

from __future__ import annotations

import ctypes
import os
import sys

import psutil
import torch

# Of mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have glibc keep large freed blocks for the next step, which asks for the same ones again.

    Given back to the system at once, each page of a CPU's activations is zeroed and mapped anew in every step. Nothing
    is changed, and False returned, where the C library has no such setting or the user's MALLOC_ variables decide.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(what, MOST) for what in (MMAP_THRESHOLD, TRIM_THRESHOLD))


def available_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on the CPU or a CUDA device; elsewhere the host's memory is taken."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return psutil.virtual_memory().available
