"""Voxels by patch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# Voxels that are processed at a time on a CPU.
PART = 2**18


def patch_cells(volume_BDHW: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Voxels of each patch of a grid (B, N, pd, ph, pw), N z-major."""
    batch, *size = volume_BDHW.shape
    (d, h, w), (pd, ph, pw) = grid, (s // g for s, g in zip(size, grid))
    cells = volume_BDHW.reshape(batch, d, pd, h, ph, w, pw).permute(0, 1, 3, 5, 2, 4, 6)
    return cells.reshape(batch, d * h * w, pd, ph, pw)


def patch_maxima(volumes: Iterable[Tensor], grid: tuple[int, int, int]) -> Tensor:
    """Largest voxel of each patch (B, N), N z-major, of volumes (1, D, H, W): a batch, or a list."""
    d, h, w = grid
    rows = []
    for volume_1DHW in volumes:
        size = [s // g for s, g in zip(volume_1DHW.shape[1:], grid)]
        # Along rows of voxels last: the first maxima then read contiguous memory.
        planes_dhW = volume_1DHW.reshape(d, size[0], h, size[1], -1).amax(dim=3).amax(dim=1)
        rows.append(planes_dhW.unflatten(-1, (w, size[2])).amax(dim=-1).flatten())
    return torch.stack(rows)


def in_parts(function: Callable[[Tensor], Tensor], cells_M1dhw: Tensor) -> Tensor:
    """A function of single patches, applied to parts that fit into the cache of a CPU, elsewhere to all at once."""
    if cells_M1dhw.device.type != "cpu" or torch.compiler.is_compiling():
        return function(cells_M1dhw)
    patches = max(1, PART // cells_M1dhw.shape[1:].numel())
    return torch.cat([function(part) for part in cells_M1dhw.split(patches)])
