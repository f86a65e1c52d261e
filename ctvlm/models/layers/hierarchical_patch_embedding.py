"""Volume to patch tokens in several steps."""

from __future__ import annotations

import math

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.layers.init import init_as_linear
from ctvlm.models.layers.patch_embedding import check_channels, grid_of
from ctvlm.registry import LAYERS


@LAYERS.register_module()
class HierarchicalPatchEmbedding(nn.Module):
    """Merge voxels to cells and cells to patches, with shared weights and a GELU at each step: (B, N, E).

    One linear projection of a patch must learn a small lesion anew for each place in the patch; here the
    first steps see small cells that share their weights. No step looks past the patch, so dropping patches
    stays exact. The stem is hMLP's (Touvron et al., 2022, "Three things everyone should know about ViTs"), in 3D
    and with layer norm.

    Args:
        merges: factors (z, y, x) of each step; their product is the patch size.
        widths: channels after each step but the last; the last gives ``embed_dims``.

    Raises:
        ValueError: merges that do not multiply to the patch size, or a wrong number of widths; in ``forward`` as
            ThreeDPatchEmbedding.
    """

    def __init__(
        self,
        in_channels: int = 3,
        embed_dims: int = 768,
        patch_size: tuple[int, int, int] = (4, 16, 16),
        merges: tuple[tuple[int, int, int], ...] = ((1, 4, 4), (2, 2, 2), (2, 2, 2)),
        widths: tuple[int, ...] = (48, 96),
    ) -> None:
        super().__init__()
        product = [1, 1, 1]
        for merge in merges:
            product = [p * m for p, m in zip(product, merge)]
        if tuple(product) != tuple(patch_size) or len(widths) != len(merges) - 1:
            raise ValueError(
                f"HierarchicalPatchEmbedding: merges = {merges} make {tuple(product)} with {len(widths)} widths; "
                f"expected patch_size = {tuple(patch_size)} and {len(merges) - 1} widths"
            )
        self.in_channels = in_channels
        self.patch_size = tuple(patch_size)
        self.merges = tuple(tuple(merge) for merge in merges)
        channels = [in_channels, *widths, embed_dims]
        self.linears = nn.ModuleList(
            nn.Linear(channels[i] * math.prod(merge), channels[i + 1]) for i, merge in enumerate(self.merges)
        )
        # Over the channels of one cell: a norm over the patch would mix its places.
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        for linear in self.linears:
            init_as_linear(linear)

    def grid_of(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Patch grid of a volume of ``size`` voxels."""
        return grid_of(size, self.patch_size)

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        check_channels(volume_BCDHW, self.in_channels)
        self.grid_of(tuple(volume_BCDHW.shape[2:]))
        x_BDHWC = volume_BCDHW.movedim(1, -1)
        for merge, linear, norm in zip(self.merges, self.linears, self.norms):
            x_BDHWC = F.gelu(norm(linear(_merge(x_BDHWC, merge))))
        return self.linears[-1](_merge(x_BDHWC, self.merges[-1])).flatten(1, 3)


def _merge(x_BDHWC: Tensor, factors: tuple[int, int, int]) -> Tensor:
    """Neighbouring cells become channels."""
    batch, *size, channels = x_BDHWC.shape
    d, h, w = (s // f for s, f in zip(size, factors))
    fd, fh, fw = factors
    x = x_BDHWC.reshape(batch, d, fd, h, fh, w, fw, channels).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(batch, d, h, w, fd * fh * fw * channels)
