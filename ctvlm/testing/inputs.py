"""Random inputs of model components: contexts, encoder outputs, volumes and region maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ctvlm.structures import EncoderOutput, TokenContext
from ctvlm.testing.building import CHANNELS, REGIONS, WIDTH

# Patch grids (d, h, w): a single patch, and two whose axes differ.
GRIDS = [(1, 1, 1), (2, 3, 2), (5, 2, 3)]
GRID = (2, 3, 2)
BATCH_SIZES = (1, 3)


def random_tokens(batch: int, grid: tuple[int, int, int], width: int = WIDTH) -> Tensor:
    """Tokens (B, N, E)."""
    return torch.randn(batch, math.prod(grid), width)


def random_context(
    batch: int,
    grid: tuple[int, int, int],
    padded: bool = False,
    dtype: torch.dtype = torch.float32,
    width: int = WIDTH,
    num_regions: int = REGIONS,
) -> TokenContext:
    """A context with regions and random spacing.

    Args:
        padded: keep about half of the patches, a different number for each case, in random order.
    """
    spacing_B3 = torch.rand(batch, 3, dtype=dtype) * 4 + 1
    ctx = TokenContext.full(batch, grid, spacing_B3)
    if padded:
        cells = ctx.num_cells
        kept = max(1, cells // 2 + 1)
        index = torch.stack([torch.randperm(cells)[:kept] for _ in range(batch)])
        lengths = torch.tensor([max(1, kept - i) for i in range(batch)])
        ctx = TokenContext(grid, index, torch.arange(kept)[None] < lengths[:, None], spacing_B3)
    tokens = ctx.index_BN.shape[1]
    assignment = torch.rand(batch, tokens, num_regions + 1, dtype=dtype).softmax(dim=-1)
    return ctx.with_regions(assignment, torch.randn(batch, num_regions, width, dtype=dtype))


def random_output(
    batch: int,
    grid: tuple[int, int, int],
    dtype: torch.dtype = torch.float32,
    width: int = WIDTH,
    num_regions: int = REGIONS,
) -> EncoderOutput:
    """Output of an encoder that dropped about a third of the patches."""
    ctx = random_context(batch, grid, dtype=dtype, width=width, num_regions=num_regions)
    shape = (batch, ctx.num_cells, width)
    mask = torch.rand(batch, ctx.num_cells) > 0.3
    mask[:, 0] = True
    tokens = torch.randn(shape, dtype=dtype) * mask[..., None]
    levels = [torch.randn(shape, dtype=dtype), tokens]
    regions = torch.randn(batch, num_regions, width, dtype=dtype)
    logits = torch.randn(*shape[:2], num_regions + 1, dtype=dtype)
    assert ctx.patch_to_region_BNR1 is not None
    return EncoderOutput(tokens, mask, ctx.positions_BN3, regions, ctx.patch_to_region_BNR1, grid, levels, logits)


def random_region_map(batch: int, size: tuple[int, ...], num_regions: int = REGIONS) -> Tensor:
    """Region ids (B, D, H, W), 0 to ``num_regions``."""
    return torch.randint(0, num_regions + 1, (batch, *size))


def body_volume(batch: int, size: tuple[int, ...], channels: int = CHANNELS) -> Tensor:
    """Windowed volume (B, C, D, H, W): random tissue in the centre of each slice, air (0) around it."""
    volume = torch.rand(batch, channels, *size) + 0.05
    for axis in (3, 4):
        edge = size[axis - 2] // 3  # a whole patch of grids with three patches, which body selection drops
        volume.narrow(axis, 0, edge).zero_()
        volume.narrow(axis, size[axis - 2] - edge, edge).zero_()
    return volume
