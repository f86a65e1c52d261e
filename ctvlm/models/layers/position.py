"""Position encodings of a 3D patch grid. Each works for any volume size."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.registry import LAYERS
from ctvlm.structures.token_context import TokenContext


class Position3D(nn.Module):
    """Base class of position encodings.

    Attributes:
        additive: True: ``forward(grid, like)`` returns a code (N, E) that is added to the tokens. False:
            ``forward(ctx)`` returns cosines and sines that attention layers apply to queries and keys.
        sizes: constructor arguments that the encoder provides, of ``embed_dims``, ``head_dims`` and ``base_grid`` (the
            patch grid of the encoder's ``img_size``).
    """

    additive: bool = True
    sizes: tuple[str, ...] = ("embed_dims",)


@LAYERS.register_module()
class SinCosPosition3D(Position3D):
    """Fixed sines and cosines of (z, y, x) grid coordinates, computed for any grid: (N, E).

    Each axis gets a third of the width. The rest of a width that 6 does not divide is zero.

    Args:
        scale: factor of the code. At 1 its norm is that of the patch embedding. All cases have the same code at a
            position, so what distinguishes them is then a small part of a token, and is learned later.
    """

    def __init__(self, embed_dims: int, temperature: float = 10000.0, scale: float = 1.0) -> None:
        super().__init__()
        if embed_dims < 6:
            raise ValueError(f"embed_dims = {embed_dims}; sines and cosines of three axes need at least 6")
        self.embed_dims = embed_dims
        self.temperature = temperature
        self.scale = scale
        # The grid rarely changes during a training.
        self._cache: dict[tuple, Tensor] = {}

    def forward(self, grid: tuple[int, int, int], like: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # the tensors of a trace are not values
            return self._encode(grid).to(like)
        key = (tuple(grid), like.device, like.dtype)
        if key not in self._cache:
            self._cache.clear()
            self._cache[key] = self._encode(grid).to(like, non_blocking=True)
        return self._cache[key]

    def _encode(self, grid: tuple[int, int, int]) -> Tensor:
        half = self.embed_dims // 6
        omega = self.temperature ** (-torch.arange(half, dtype=torch.float64) / half)
        axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in grid], indexing="ij")
        parts = [fn(axis.reshape(-1, 1) * omega) for axis in axes for fn in (torch.sin, torch.cos)]
        code_NE = torch.cat(parts, dim=1)
        return self.scale * F.pad(code_NE, (0, self.embed_dims - code_NE.shape[1])).float()


@LAYERS.register_module()
class LearnedPosition3D(Position3D):
    """One learned vector per cell of ``base_grid``, interpolated trilinearly to other grids: (N, E)."""

    sizes = ("embed_dims", "base_grid")

    def __init__(self, embed_dims: int, base_grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.base_grid = tuple(base_grid)
        self.table = nn.Parameter(torch.zeros(1, embed_dims, *self.base_grid))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, grid: tuple[int, int, int], like: Tensor) -> Tensor:
        table: Tensor = self.table
        if tuple(grid) != self.base_grid:
            table = F.interpolate(table, size=tuple(grid), mode="trilinear", align_corners=False)
        return table.flatten(2).transpose(1, 2)[0]


@LAYERS.register_module()
class RotaryPosition3D(Position3D):
    """Rotation angles from positions in mm, applied to queries and keys by the attention layers.

    Each axis rotates a third of the head's pairs, at wavelengths from ``min_wavelength`` to ``max_wavelength`` mm.
    Remaining pairs are not rotated. Scores then depend on distances in mm, whatever the spacing.
    """

    additive = False
    sizes = ("head_dims",)
    omega: Tensor

    def __init__(self, head_dims: int, min_wavelength: float = 20.0, max_wavelength: float = 2000.0) -> None:
        super().__init__()
        if head_dims < 6 or head_dims % 2:
            raise ValueError(f"head_dims = {head_dims}; rotary positions on three axes need an even width of 6 or more")
        pairs = head_dims // 6
        steps = torch.linspace(0, 1, pairs, dtype=torch.float64)
        wavelength = min_wavelength * (max_wavelength / min_wavelength) ** steps
        self.register_buffer("omega", (2 * math.pi / wavelength).float(), persistent=False)
        self.unrotated = head_dims // 2 - 3 * pairs

    def forward(self, ctx: TokenContext) -> tuple[Tensor, Tensor]:
        angle = ctx.positions_BN3[..., None].float() * self.omega.float()
        angle = F.pad(angle.flatten(2), (0, self.unrotated))[:, None]
        return angle.cos(), angle.sin()


def apply_rotary(x_BKNd: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (i, i + half) of the last dimension."""
    cos, sin = (part.to(x_BKNd.dtype) for part in rotary)
    first, second = x_BKNd.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
