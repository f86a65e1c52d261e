"""Voxels by patch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

# Voxels that are processed at a time on a CPU.
PART = 2**18


def patch_cells(volume_BDHW: Tensor, merges: Sequence[tuple[int, int, int]]) -> Tensor:
    """Voxels of each patch (B, N, v), N z-major.

    Args:
        merges: factors (z, y, x) from voxels to cells, from cells to larger cells and so on; their product is the patch
            size. The voxels of a cell are contiguous, at each level, so that each merge of cells is a view.
    """
    first = merges[0]
    if first[2] > 1 and _is_one_number(volume_BDHW, first[2]):
        rows_BDHw = volume_BDHW.view(torch.int64)
        return patch_cells(rows_BDHw, [(*first[:2], 1), *merges[1:]]).view(volume_BDHW.dtype)
    batch, *size = volume_BDHW.shape
    levels, voxels = len(merges) + 1, 1
    shape = [batch]
    for axis, length in enumerate(size):
        factors = [merge[axis] for merge in reversed(merges)]
        patch = math.prod(factors)
        voxels *= patch
        shape += [length // patch, *factors]
    order = [1 + axis * levels + level for level in range(levels) for axis in range(3)]
    return volume_BDHW.reshape(shape).permute(0, *order).reshape(batch, -1, voxels)


def _is_one_number(volume_BDHW: Tensor, voxels: int) -> bool:
    """Whether this number of voxels can be copied as one of 64 bits, in less than half the time."""
    size = volume_BDHW.element_size()
    return bool(
        volume_BDHW.device.type == "cpu"
        and not volume_BDHW.is_floating_point()
        and not torch.compiler.is_compiling()
        and voxels * size == 8
        and volume_BDHW.is_contiguous()
        and volume_BDHW.storage_offset() * size % 8 == 0
    )


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


def in_parts(function: Callable[[Tensor], Tensor], patches_Mv: Tensor) -> Tensor:
    """A function of single patches, applied to parts that fit into the cache of a CPU, elsewhere to all at once."""
    if patches_Mv.device.type != "cpu" or torch.compiler.is_compiling():
        return function(patches_Mv)
    return torch.cat([function(part) for part in patches_Mv.split(max(1, PART // patches_Mv.shape[1]))])
