"""Patch embedding in several steps."""

from __future__ import annotations

import math
from typing import Any

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.layers.init import init_as_linear
from ctvlm.models.layers.patch_cells import patch_cells
from ctvlm.models.layers.patch_embedding import as_grid, check_channels, grid_of
from ctvlm.registry import LAYERS


@LAYERS.register_module()
class HierarchicalPatchEmbedding(nn.Module):
    """Merge voxels to cells and cells to patches, with shared weights and a GELU between steps: (B, N, E).

    A single linear projection of a patch has to learn a small lesion separately for each position in the patch. Here
    the first steps process small cells with shared weights. No step reads beyond the patch, so that dropping patches
    is exact. The stem is hMLP's (Touvron et al., 2022, "Three things everyone should know about ViTs"), in 3D, with
    layer norm or without a norm.

    Args:
        merges: factors (z, y, x) of each step; their product is the patch size.
        widths: channels after each step except the last, which gives ``embed_dims``.
        norm: layer norm of each cell after a step. While biases are near zero, it removes the level of a homogeneous
            cell, which is information in CT: the HU of a cyst, or of a sclerotic bone.
        mlp_ratio: add an MLP to each cell after a step, with this ratio of hidden channels. 0: none.

    Raises:
        ValueError: the product of merges is not the patch size, or the number of widths is wrong; ``forward``: see
            ThreeDPatchEmbedding.
    """

    def __init__(
        self,
        in_channels: int = 3,
        embed_dims: int = 768,
        patch_size: tuple[int, int, int] = (4, 16, 16),
        merges: tuple[tuple[int, int, int], ...] = ((1, 4, 4), (2, 2, 2), (2, 2, 2)),
        widths: tuple[int, ...] = (48, 96),
        norm: bool = True,
        mlp_ratio: float = 0.0,
    ) -> None:
        super().__init__()
        product = [1, 1, 1]
        for merge in merges:
            product = [p * m for p, m in zip(product, merge)]
        if tuple(product) != tuple(patch_size) or len(widths) != len(merges) - 1:
            raise ValueError(
                f"HierarchicalPatchEmbedding: merges = {merges} give {tuple(product)}, with {len(widths)} widths; "
                f"expected patch_size = {tuple(patch_size)} and {len(merges) - 1} widths"
            )
        self.in_channels = in_channels
        self.patch_size = as_grid(patch_size)
        self.merges = tuple(as_grid(merge) for merge in merges)
        channels = [in_channels, *widths, embed_dims]
        linears = [nn.Linear(channels[i] * math.prod(merge), channels[i + 1]) for i, merge in enumerate(self.merges)]
        self.linears = nn.ModuleList(linears)
        # Over the channels of one cell: a norm over the patch would mix its cells.
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for width in widths)
        self.mlps = nn.ModuleList(_CellMLP(width, int(mlp_ratio * width)) for width in widths if mlp_ratio > 0)
        for linear in linears:
            init_as_linear(linear)

    def grid_of(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Patch grid of a volume of ``size`` voxels."""
        return grid_of(size, self.patch_size)

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        check_channels(volume_BCDHW, self.in_channels)
        self.grid_of(as_grid(volume_BCDHW.shape[2:]))
        batch, channels = volume_BCDHW.shape[:2]
        cells = patch_cells(volume_BCDHW.flatten(0, 1), self.merges).unflatten(0, (batch, channels))
        cells_BXCdhw = cells.unflatten(-1, (-1, *self.merges[0])).flatten(2, 3).transpose(1, 2)
        return self.embed_cells(cells_BXCdhw.flatten(0, 1)).unflatten(0, (batch, -1))

    def embed_cells(self, cells_XCdhw: Tensor) -> Tensor:
        """Tokens (M, E) of patches from the cells of the first step, in the order of ``patch_cells``."""
        first: Any = self.linears[0]
        # The weights are those of interleaved channels.
        weight = first.weight.unflatten(1, (-1, self.in_channels)).transpose(1, 2).flatten(1)
        x_XC = F.linear(cells_XCdhw.flatten(1), weight, first.bias)
        for i, (merge, linear) in enumerate(zip(self.merges[1:], self.linears[1:])):
            x_XC = self.norms[i](x_XC)
            if self.mlps:
                x_XC = x_XC + self.mlps[i](x_XC)
            x_XC = linear(F.gelu(x_XC).view(-1, math.prod(merge) * x_XC.shape[1]))
        return x_XC


class _CellMLP(nn.Module):
    """Linear, GELU, linear: (..., C) to (..., C)."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden_width), nn.Linear(hidden_width, width)
        for linear in (self.fc1, self.fc2):
            init_as_linear(linear)
        # The sum with the input has nearly the variance of the input.
        self.fc2.weight.data.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
