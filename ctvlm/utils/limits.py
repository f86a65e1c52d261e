"""Limits on the size of files from others, checked on the header before memory is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from ctvlm.utils.errors import CTVLMError

# Environment variables, because they also reach data workers and jobs.
# 1024 x 1024 x 1024 voxels are more than the largest CTs; 4 GiB are 512 x 512 x 4096 voxels of float32.
DEFAULTS = {"CTVLM_MAX_VOXELS": 2**30, "CTVLM_MAX_BYTES": 2**32}


def limit(name: str) -> int:
    """Value of a limit: an environment variable or its default.

    Raises:
        CTVLMError: the variable is not a positive number.
    """
    text = os.environ.get(name, "").strip() or str(DEFAULTS[name])
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
        raise CTVLMError(f"{name}: found {text[:40]!r}; expected a positive number without a unit")
    return int(text)


def excess(shape: Sequence[int], itemsize: int = 1) -> tuple[str, str, str] | None:
    """Check an array's shape and bytes per element; for one above a limit: (found, expected, what to do), else None."""
    voxels = math.prod(int(n) for n in shape)
    size = " x ".join(str(int(n)) for n in shape)
    for name, number, unit in (("CTVLM_MAX_VOXELS", voxels, "voxels"), ("CTVLM_MAX_BYTES", voxels * itemsize, "bytes")):
        if number > limit(name):
            found = f"{size} voxels" if unit == "voxels" else f"{size} voxels of {itemsize} bytes"
            return found, f"at most {limit(name):,} {unit}", f"set {name}={number} if you trust the file"
    return None


def excess_bytes(number: int) -> tuple[str, str, str] | None:
    """Check a number of bytes, as ``excess``."""
    if number <= limit("CTVLM_MAX_BYTES"):
        return None
    expected = f"at most {limit('CTVLM_MAX_BYTES'):,}"
    return f"{number:,} bytes of content", expected, f"set CTVLM_MAX_BYTES={number} if you trust the file"
