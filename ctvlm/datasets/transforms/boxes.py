"""Boxes of a fixed shape in a volume, shared by what cuts and what reads windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

Where = Literal["random", "center"]


def checked_shape(shape: Sequence[int], name: str) -> tuple[int, int, int]:
    """Three positive whole numbers, or ValueError."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"{name} is {tuple(shape)}; expected three positive sizes (D, H, W)")
    return tuple(int(n) for n in shape)


def box_in(shape: Sequence[int], box: Sequence[int], where: Where) -> tuple[slice, ...]:
    """Slices of a box inside a volume; along axes where the volume is smaller, all of it."""
    room = [max(0, n - w) for n, w in zip(shape, box, strict=True)]
    starts = [int(torch.randint(r + 1, ())) if where == "random" else r // 2 for r in room]
    return tuple(slice(s, min(n, s + w)) for s, n, w in zip(starts, shape, box, strict=True))


def padded(array: np.ndarray, shape: Sequence[int], fill: float) -> np.ndarray:
    """At least ``shape``, filled up at the far sides, so that the affine stays."""
    missing = [max(0, w - n) for n, w in zip(array.shape, shape, strict=True)]
    return np.pad(array, [(0, m) for m in missing], constant_values=fill) if any(missing) else array
