"""Named HU windows."""

from __future__ import annotations

import torch
from torch import Tensor

# Centre and width in HU, as radiologists set them.
WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "soft_tissue": (40.0, 400.0),
    "bone": (400.0, 1800.0),
}


def resolve_window(window: str | tuple[float, float]) -> tuple[float, float]:
    """Centre and width (HU) of a named window, or of an explicit ``(centre, width)``.

    Raises:
        ValueError: for an unknown name or a width that is not positive.
    """
    if isinstance(window, str):
        if window not in WINDOWS:
            raise ValueError(f"Unknown window {window!r}: known are {sorted(WINDOWS)}, or give (centre, width) in HU.")
        return WINDOWS[window]
    centre, width = window
    if width <= 0:
        raise ValueError(f"Window {tuple(window)} has width {width}: expected (centre, width) in HU with width > 0.")
    return float(centre), float(width)


def apply_windows(hu: Tensor, windows: list[str | tuple[float, float]]) -> Tensor:
    """Stack windows of a volume along a new channel axis: (B, D, H, W) in HU to (B, C, D, H, W) in [0, 1]."""
    # Whole numbers become floats in the subtraction itself; halves must not lose digits there.
    hu = hu.float() if hu.is_floating_point() else hu
    out = hu.new_empty((hu.shape[0], len(windows), *hu.shape[1:]), dtype=torch.float32)
    for channel, window in enumerate(windows):
        centre, width = resolve_window(window)
        # In place: this touches every voxel of the batch, and each temporary costs as much as the window.
        torch.sub(hu, centre - width / 2, out=out[:, channel]).div_(width).clamp_(0, 1)
    return out
