"""Volume to patch tokens in several steps."""

from __future__ import annotations

import torch.nn as nn
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
        channels = [in_channels, *widths, embed_dims]
        self.steps = nn.ModuleList()
        for i, merge in enumerate(merges):
            conv = nn.Conv3d(channels[i], channels[i + 1], kernel_size=tuple(merge), stride=tuple(merge))
            init_as_linear(conv)
            last = i == len(merges) - 1
            # Group norm with one group would mix places of a patch; the norm is over channels of one cell.
            self.steps.append(nn.ModuleList([conv] if last else [conv, nn.LayerNorm(channels[i + 1])]))
        self.activation = nn.GELU()

    def grid_of(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Patch grid of a volume of ``size`` voxels."""
        return grid_of(size, self.patch_size)

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        check_channels(volume_BCDHW, self.in_channels)
        self.grid_of(tuple(volume_BCDHW.shape[2:]))
        x = volume_BCDHW
        for conv, norm in self.steps[:-1]:
            x = self.activation(norm(conv(x).movedim(1, -1))).movedim(-1, 1)
        return self.steps[-1][0](x).flatten(2).transpose(1, 2)
