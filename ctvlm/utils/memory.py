"""Memory of the host and of accelerators."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

import psutil
import torch

# Parameters of mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Configure glibc to keep large freed blocks, because every training step allocates blocks of the same sizes.

    By default glibc returns them to the system, which zeroes and maps every page of the activations again in each
    step. Returns False, without any change, if the C library has no such setting or MALLOC_* variables are set.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(what, MOST) for what in (MMAP_THRESHOLD, TRIM_THRESHOLD))


def available_memory(device: torch.device) -> int:
    """Available memory in bytes of a CUDA device; for other devices, of the host."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return psutil.virtual_memory().available


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: allocated by torch on a CUDA device; for other devices, used by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists() and (match := re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(match[1]) * 1024
    import resource  # not available on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
