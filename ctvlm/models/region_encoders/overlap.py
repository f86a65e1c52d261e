"""Exact overlap between patches and regions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ctvlm.structures import Anatomy, TokenContext

UNKNOWN = -1


def patch_overlap(region_map_BDHW: Tensor, grid: tuple[int, int, int], num_regions: int) -> tuple[Tensor, Tensor]:
    """Share of each patch's voxels in each region, equal to average-pooling a one-hot volume.

    Computed as a histogram, one case at a time; the largest intermediate result is one index per voxel. The ids of a
    map that is not on the CPU, or in a compiled graph, are not checked, because that would wait for the device or end
    the graph: the data preprocessor checks maps before. A map with an id outside -1..R gives NaN there.

    Returns:
        Shares (B, N, R + 1) of the known voxels; rows sum to 1 (background if no voxel is known). Share of voxels
        that are known (B, N).

    Raises:
        ValueError: an id outside -1..R of a map on the CPU, or the grid does not divide the map.
    """
    on_host = region_map_BDHW.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_host:
        check_region_map(region_map_BDHW, num_regions)
    batch, *size = region_map_BDHW.shape
    pd, ph, pw = patch_shape(size, grid)
    d, h, w = grid
    cells, bins = d * h * w, num_regions + 2
    # Shifted by one, so that unknown voxels are in bin 0. 32 bits are enough and halve the memory traffic.
    first_bin = torch.arange(cells, device=region_map_BDHW.device, dtype=torch.int32) * bins + 1
    first_bin_DHW = first_bin.view(d, 1, h, 1, w, 1).expand(d, pd, h, ph, w, pw).reshape(size)
    bins_BDHW = (region_map_DHW.int() + first_bin_DHW for region_map_DHW in region_map_BDHW)
    counts_BNx = (_count if on_host else _count_on_device)(bins_BDHW, cells * bins).view(batch, cells, bins)
    if not on_host:
        counts_BNx = counts_BNx.masked_fill(has_unknown_id(region_map_BDHW, num_regions), math.nan)
    known_BN = 1 - counts_BNx[..., 0] / (pd * ph * pw)
    counts_BNR1 = counts_BNx[..., 1:]
    counts_BNR1[..., 0] += (known_BN == 0).float()
    return counts_BNR1 / counts_BNR1.sum(dim=-1, keepdim=True), known_BN


def _count(bins_BDHW: Iterable[Tensor], length: int) -> Tensor:
    """How often each bin occurs in each case (B, length)."""
    return torch.stack([torch.bincount(bin_DHW.flatten(), minlength=length) for bin_DHW in bins_BDHW]).float()


def _count_on_device(bins_BDHW: Iterable[Tensor], length: int) -> Tensor:
    """The same without ``bincount``, which waits for the device. It is slower on a CPU."""
    rows = []
    for bin_DHW in bins_BDHW:
        one = torch.ones(1, dtype=torch.int32, device=bin_DHW.device)
        rows.append(one.new_zeros(length).scatter_add_(0, bin_DHW.flatten().long(), one.expand(bin_DHW.numel())))
    return torch.stack(rows).float()


def has_unknown_id(region_map_BDHW: Tensor, num_regions: int) -> Tensor:
    """Whether an id is outside -1..R (scalar), on the device of the map."""
    low, high = (value.int() for value in torch.aminmax(region_map_BDHW))  # in uint8, -1 is 255
    return (low < UNKNOWN) | (high > num_regions)


def patch_shape(size: Sequence[int], grid: tuple[int, int, int]) -> tuple[int, int, int]:
    """Voxels of a patch (z, y, x).

    Raises:
        ValueError: the grid does not divide the map.
    """
    if any(s % g for s, g in zip(size, grid)):
        raise ValueError(f"the map has D, H, W = {tuple(size)}, which the patch grid {grid} does not divide")
    pd, ph, pw = (s // g for s, g in zip(size, grid))
    return pd, ph, pw


def overlap_of(region_map_BDHW: Tensor, ctx: TokenContext, num_regions: int) -> Anatomy:
    """Overlap of the patches of the full grid with a region map: ``ctx.anatomy`` if it is given, else computed.

    Raises:
        ValueError: ``ctx.anatomy`` is of another grid or another number of regions; see also ``patch_overlap``.
    """
    if ctx.anatomy is None:
        if region_map_BDHW.device.type != "cpu" and not torch.compiler.is_compiling():
            check_region_map(region_map_BDHW, num_regions)
        return Anatomy(*patch_overlap(region_map_BDHW, ctx.grid, num_regions))
    expected = (len(region_map_BDHW), ctx.num_cells, num_regions + 1)
    if tuple(ctx.anatomy.shares_BNR1.shape) != expected:
        raise ValueError(f"anatomy.shares_BNR1 has shape {tuple(ctx.anatomy.shares_BNR1.shape)}; expected {expected}")
    return ctx.anatomy


def check_region_map(region_map_BDHW: Tensor, num_regions: int, name: str = "the region map") -> None:
    """Raise a ValueError for ids outside -1..R. Waits for the device of the map."""
    low, high = (int(value) for value in torch.aminmax(region_map_BDHW))
    if low < UNKNOWN or high > num_regions:
        wrong = high if high > num_regions else low
        raise ValueError(
            f"{name} contains id {wrong}, but the encoder has num_regions = {num_regions} "
            f"(ids 1..{num_regions}, 0 background, -1 unknown). Convert the map to the RegionScheme of the config, "
            "or set num_regions to the size of the scheme."
        )
