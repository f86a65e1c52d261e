"""Voxels by patch."""

from __future__ import annotations

from torch import Tensor


def patch_cells(volume_BDHW: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Voxels of each patch of a grid (B, N, pd, ph, pw), N z-major."""
    batch, *size = volume_BDHW.shape
    (d, h, w), (pd, ph, pw) = grid, (s // g for s, g in zip(size, grid))
    cells = volume_BDHW.reshape(batch, d, pd, h, ph, w, pw).permute(0, 1, 3, 5, 2, 4, 6)
    return cells.reshape(batch, d * h * w, pd, ph, pw)
