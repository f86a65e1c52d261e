"""Boxes of a fixed shape in a volume, for cropping and for reading windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

Where = Literal["random", "center"]


def check_shape(shape: Sequence[int], name: str) -> tuple[int, int, int]:
    """Return three positive integers.

    Raises:
        ValueError: not three sizes, or a size below 1.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"{name}: found {tuple(shape)}; expected three positive sizes (D, H, W)")
    depth, height, width = (int(n) for n in shape)
    return depth, height, width


def select_box(shape: Sequence[int], box: Sequence[int], where: Where) -> tuple[slice, ...]:
    """Return the slices of a box inside a volume. Along axes with a smaller volume, the whole axis is used."""
    margins = [max(0, n - w) for n, w in zip(shape, box, strict=True)]
    starts = [int(torch.randint(r + 1, ())) if where == "random" else r // 2 for r in margins]
    return tuple(slice(s, min(n, s + w)) for s, n, w in zip(starts, shape, box, strict=True))


def pad_to(array: np.ndarray, shape: Sequence[int], fill: float) -> np.ndarray:
    """Pad to at least ``shape`` at the end of each axis, which leaves the affine unchanged."""
    missing = [max(0, w - n) for n, w in zip(array.shape, shape, strict=True)]
    return np.pad(array, [(0, m) for m in missing], constant_values=fill) if any(missing) else array
