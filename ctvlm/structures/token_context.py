"""Geometry of the tokens of a batch, for attention layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.structures.anatomy import Anatomy


@dataclass(frozen=True)
class TokenContext:
    """Geometry, mask and regions of tokens (B, N, E) on the patch grid ``grid = (d, h, w)``.

    N can be smaller than d*h*w: body selection keeps some of the patches and pads to the longest case. The object is
    immutable because activation checkpointing reads it twice; the ``with_*`` methods return a modified copy. Copies
    share ``cache``, which contains values that all blocks need and that have no gradient.

    Attributes:
        grid: (d, h, w) of the full patch grid.
        index_BN: flat z-major index of each token in the grid, unique within a case.
        token_mask_BN: False for padding; ``None``: no padding.
        spacing_B3: distance between neighbouring tokens in mm (z, y, x).
        patch_to_region_BNR1: assignment, rows sum to 1, column 0 is background.
        region_tokens_BRE: features of the regions that patches can attend to.
        rotary: cosines and sines, each (B, 1, N, half of the head width), see RotaryPosition3D.
        is_full_grid: True if N = d*h*w, in grid order and without padding.
        anatomy: overlap of all patches of the grid with the region map, if already computed.
        kept_T: places in (B N) of the tokens that are not padding; ``None``: not known, or no padding.
    """

    grid: tuple[int, int, int]
    index_BN: Tensor
    token_mask_BN: Tensor | None
    spacing_B3: Tensor
    patch_to_region_BNR1: Tensor | None = None
    region_tokens_BRE: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None
    is_full_grid: bool = False
    anatomy: Anatomy | None = None
    kept_T: Tensor | None = None
    cache: dict = field(default_factory=dict, repr=False)

    @classmethod
    def full(cls, batch: int, grid: tuple[int, int, int], spacing_B3: Tensor, **kwargs) -> TokenContext:
        """Context in which every patch of the grid is a token."""
        index_BN = torch.arange(math.prod(grid), device=spacing_B3.device).expand(batch, -1)
        return cls(grid, index_BN, None, spacing_B3, is_full_grid=True, **kwargs)

    def with_regions(self, patch_to_region_BNR1: Tensor, region_tokens_BRE: Tensor | None) -> TokenContext:
        return dataclasses.replace(self, patch_to_region_BNR1=patch_to_region_BNR1, region_tokens_BRE=region_tokens_BRE)

    def with_rotary(self, rotary: tuple[Tensor, Tensor]) -> TokenContext:
        return dataclasses.replace(self, rotary=rotary)

    def with_anatomy(self, anatomy: Anatomy | None) -> TokenContext:
        return dataclasses.replace(self, anatomy=anatomy)

    @property
    def num_cells(self) -> int:
        """Number of patches of the full grid."""
        return math.prod(self.grid)

    @property
    def z_BN(self) -> Tensor:
        """Slice index of each token."""
        return self.index_BN // (self.grid[1] * self.grid[2])

    @property
    def zyx_BN3(self) -> Tensor:
        """Grid coordinates of each token."""
        _, h, w = self.grid
        return torch.stack([self.index_BN // (h * w), self.index_BN // w % h, self.index_BN % w], dim=-1)

    @property
    def positions_BN3(self) -> Tensor:
        """Token centres in mm (z, y, x), from the corner of the first voxel."""
        return (self.zyx_BN3 + 0.5) * self.spacing_B3[:, None]

    def z_onehot_BNd(self, dtype: torch.dtype) -> Tensor:
        """One-hot slice index of each token (B, N, d), computed once for all blocks."""

        def onehot() -> Tensor:
            rows = self.z_BN[:1] if self.is_full_grid else self.z_BN
            return F.one_hot(rows, self.grid[0]).to(dtype)

        return self._cached(("z_onehot", dtype), onehot).expand(self.index_BN.shape[0], -1, -1)

    def gather(self, full_BNx: Tensor) -> Tensor:
        """Select the rows of the tokens from one row per patch: (B, d*h*w, x) to (B, N, x)."""
        if self.is_full_grid:
            return full_BNx
        rows_BNx = full_BNx.flatten(0, 1).index_select(0, self._rows())
        return rows_BNx.view(*self.index_BN.shape, full_BNx.shape[-1])

    def gather_kept(self, full_BNx: Tensor) -> Tensor:
        """As ``gather``, without padding if it is known: (B, d*h*w, x) to (T, x)."""
        rows_Mx = full_BNx.flatten(0, 1)
        if self.is_full_grid:
            return rows_Mx
        return rows_Mx.index_select(0, self._rows() if self._kept() is None else self._rows()[self.kept_T])

    def pad(self, tokens_Tx: Tensor) -> Tensor:
        """Tokens of ``gather_kept`` with padding of 0: (T, x) to (B, N, x)."""
        batch, tokens = self.index_BN.shape
        kept_T = self._kept()
        if kept_T is not None:
            tokens_Tx = tokens_Tx.new_zeros(batch * tokens, tokens_Tx.shape[1]).index_copy(0, kept_T, tokens_Tx)
        return tokens_Tx.view(batch, tokens, -1)

    def _kept(self) -> Tensor | None:
        """``kept_T``, but not in a compiled graph, whose shapes would change with it."""
        return None if torch.compiler.is_compiling() else self.kept_T

    def scatter(self, tokens_BNx: Tensor, fill: Tensor | None = None) -> Tensor:
        """Write one row per token to one row per patch: (B, N, x) to (B, d*h*w, x).

        Args:
            fill: row (x,) of patches without a token; zeros by default.
        """
        if self.is_full_grid:
            return tokens_BNx
        batch, _, width = tokens_BNx.shape
        if fill is None:
            fill = tokens_BNx.new_zeros(width)
        fill = fill.to(tokens_BNx)
        if self.token_mask_BN is not None:
            tokens_BNx = torch.where(self.token_mask_BN[..., None], tokens_BNx, fill)
        full_Xx = fill.repeat(batch * self.num_cells, 1)
        return full_Xx.index_copy(0, self._rows(), tokens_BNx.flatten(0, 1)).view(batch, self.num_cells, width)

    def _rows(self) -> Tensor:
        """Row of each token in the patches of all cases (B * N). Whole rows are copied faster than by element."""

        def rows() -> Tensor:
            first_B1 = torch.arange(self.index_BN.shape[0], device=self.index_BN.device)[:, None] * self.num_cells
            return (self.index_BN + first_B1).flatten()

        return self._cached("rows", rows)

    def full_mask(self) -> Tensor:
        """True for patches of the grid that are tokens (B, d*h*w)."""
        if self.is_full_grid:
            return torch.ones_like(self.index_BN, dtype=torch.bool)

        def mask() -> Tensor:
            kept_BN = self.token_mask_BN
            kept_BN = torch.ones_like(self.index_BN, dtype=torch.bool) if kept_BN is None else kept_BN
            empty_BN = kept_BN.new_zeros(kept_BN.shape[0], self.num_cells)
            return empty_BN.scatter(1, self.index_BN, kept_BN)

        return self._cached("full_mask", mask)

    def _cached(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """The value of ``cache``. A graph removes equal operations itself, and a recomputed block must not store."""
        if key in self.cache:
            return self.cache[key]
        value = compute()
        if not torch.compiler.is_compiling():
            self.cache[key] = value
        return value
