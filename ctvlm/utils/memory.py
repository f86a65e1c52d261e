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
    """Available memory in bytes of a CUDA device; for other devices, of the host within the limit of the container."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return min([psutil.virtual_memory().available, *(limit - used for limit, used in _control_groups())])


def total_memory() -> int:
    """Memory in bytes of the host, or the limit of the container or job."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _control_groups())])


def _control_groups(
    root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")
) -> list[tuple[int, int]]:
    """Limit and use in bytes of the control groups that contain this process (Linux, versions 1 and 2)."""
    try:
        lines = [line.split(":", 2) for line in groups.read_text().split("\n") if line.count(":") >= 2]
    except OSError:
        return []
    found = []
    for _, controllers, name in lines:
        if controllers == "":
            top, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = top / name.strip("/")
        # In a container, the groups above its own are not visible.
        for folder in [top] if not own.is_dir() else [own, *(up for up in own.parents if up.is_relative_to(top))]:
            try:
                limit, used = (int((folder / name).read_text()) for name in names[:2])
                # Cached files are given back when memory is needed.
                files = re.search(rf"^{names[2]} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            except (OSError, ValueError):  # no limit ("max")
                continue
            found.append((limit, used - (int(files[1]) if files else 0)))
    return found


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
