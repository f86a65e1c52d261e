"""Attention within parts of the patch grid: windows of slices, or columns along z."""

from __future__ import annotations

from abc import abstractmethod

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.attention.augmented_sdpa import augmented_sdpa
from ctvlm.models.attention.base import SelfAttention
from ctvlm.registry import ATTENTION
from ctvlm.structures import TokenContext


class GridAttention(SelfAttention):
    """Scatter tokens to the full grid, split it into parts, and attend within each part.

    A subclass implements ``split`` and ``merge``. Patches that body selection dropped become masked cells.
    """

    @abstractmethod
    def split(self, cells_Bdsx: Tensor) -> Tensor:
        """From (B, d, h*w, x) to (B, parts, length, x); padding cells are zero or False."""

    @abstractmethod
    def merge(self, parts_BGLx: Tensor, d: int) -> Tensor:
        """The inverse of ``split``, without its padding."""

    def pads(self, d: int) -> bool:
        """Whether ``split`` adds padding cells."""
        return False

    def attend(self, q_BKNc: Tensor, k_BKNc: Tensor, v_BKNc: Tensor, ctx: TokenContext) -> Tensor:
        batch, heads, num_tokens, width = q_BKNc.shape
        d = ctx.grid[0]

        def parts(x_BKNc: Tensor) -> Tensor:
            full_BNx = ctx.scatter(x_BKNc.transpose(1, 2).flatten(2))
            parts_BGLx = self.split(full_BNx.view(batch, d, -1, heads * width))
            return parts_BGLx.flatten(0, 1).unflatten(-1, (heads, width)).transpose(1, 2)

        mask_GL = None
        if not ctx.is_full_grid or self.pads(d):
            mask_GL = self.split(ctx.full_mask().view(batch, d, -1, 1)).flatten(0, 1)[..., 0]
        out_GKLc = augmented_sdpa(parts(q_BKNc), parts(k_BKNc), parts(v_BKNc), key_mask_BM=mask_GL)
        parts_BGLx = out_GKLc.transpose(1, 2).flatten(2).unflatten(0, (batch, -1))
        full_BNx = self.merge(parts_BGLx, d).flatten(1, 2)
        return ctx.gather(full_BNx).view(batch, num_tokens, heads, width).transpose(1, 2)


@ATTENTION.register_module()
class SliceWindowAttention(GridAttention):
    """Attention within windows of slices: the cost is linear in the number of slices.

    Args:
        window: slices of the patch grid per window; 1 is attention within a slice.
        shift: number of slices that windows are shifted by, to connect neighbouring windows in alternate blocks.
    """

    def __init__(self, embed_dims: int, num_heads: int, window: int = 1, shift: int = 0, qkv_bias: bool = True) -> None:
        super().__init__(embed_dims, num_heads, qkv_bias)
        if window < 1 or not 0 <= shift < window:
            raise ValueError(f"SliceWindowAttention: window = {window}, shift = {shift}; expected 0 <= shift < window")
        self.window = window
        self.shift = shift

    def pads(self, d: int) -> bool:
        return self.shift > 0 or d % self.window > 0

    def split(self, cells_Bdsx: Tensor) -> Tensor:
        batch, d, cells, width = cells_Bdsx.shape
        padding = -(d + self.shift) % self.window
        if self.pads(d):
            cells_Bdsx = F.pad(cells_Bdsx, (0, 0, 0, 0, self.shift, padding))
        return cells_Bdsx.reshape(batch, -1, self.window * cells, width)

    def merge(self, parts_BGLx: Tensor, d: int) -> Tensor:
        batch, windows, length, width = parts_BGLx.shape
        cells = length // self.window
        return parts_BGLx.reshape(batch, windows * self.window, cells, width)[:, self.shift : self.shift + d]


@ATTENTION.register_module()
class ColumnAttention(GridAttention):
    """Attention along z: each patch attends to the patches above and below it."""

    def split(self, cells_Bdsx: Tensor) -> Tensor:
        return cells_Bdsx.transpose(1, 2)

    def merge(self, parts_BGLx: Tensor, d: int) -> Tensor:
        return parts_BGLx.transpose(1, 2)


@ATTENTION.register_module()
class AxialAttention(nn.Module):
    """Attention within each slice, then along z, as in CT-ViT (baseline)."""

    def __init__(self, embed_dims: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.in_slice = SliceWindowAttention(embed_dims, num_heads, qkv_bias=qkv_bias)
        self.norm = nn.LayerNorm(embed_dims)
        self.along_z = ColumnAttention(embed_dims, num_heads, qkv_bias)

    def forward(self, x_BNE: Tensor, ctx: TokenContext) -> Tensor:
        change_BNE = self.in_slice(x_BNE, ctx)
        return change_BNE + self.along_z(self.norm(x_BNE + change_BNE), ctx)
