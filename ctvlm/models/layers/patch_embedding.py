"""Patch embedding by one convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.layers.init import init_as_linear
from ctvlm.registry import LAYERS


@LAYERS.register_module()
class ThreeDPatchEmbedding(nn.Module):
    """Split a volume (B, C, D, H, W) into patches and project each to a token: (B, N, E), N z-major.

    Raises:
        ValueError: the number of channels is wrong, or the patch size does not divide the volume.
    """

    def __init__(
        self, in_channels: int = 3, embed_dims: int = 768, patch_size: tuple[int, int, int] = (4, 16, 16)
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.patch_size = as_grid(patch_size)
        self.proj = nn.Conv3d(in_channels, embed_dims, kernel_size=self.patch_size, stride=self.patch_size)
        init_as_linear(self.proj)

    def grid_of(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Patch grid of a volume of ``size`` voxels."""
        return grid_of(size, self.patch_size)

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        check_channels(volume_BCDHW, self.in_channels)
        if self.grid_of(as_grid(volume_BCDHW.shape[2:])) == (1, 1, 1):
            # Single patches, of which an encoder has many: a matrix product is faster than a convolution.
            return F.linear(volume_BCDHW.flatten(1), self.proj.weight.flatten(1), self.proj.bias)[:, None]
        return self.proj(volume_BCDHW).flatten(2).transpose(1, 2)


def check_channels(volume_BCDHW: Tensor, in_channels: int) -> None:
    """Raise an error if the volume does not have one channel per intensity window."""
    if volume_BCDHW.ndim != 5 or volume_BCDHW.shape[1] != in_channels:
        raise ValueError(
            f"the volume has shape {tuple(volume_BCDHW.shape)}; expected (B, {in_channels}, D, H, W) with "
            f"{in_channels} intensity windows as channels. Set as many windows in the data preprocessor as in_channels "
            "in the backbone."
        )


def grid_of(size: tuple[int, int, int], patch_size: tuple[int, int, int]) -> tuple[int, int, int]:
    """Patch grid of a volume.

    Raises:
        ValueError: the patch size does not divide the volume; states both and the nearest valid sizes.
    """
    if any(s % p or s < p for s, p in zip(size, patch_size)):
        below = tuple(max(s // p, 1) * p for s, p in zip(size, patch_size))
        above = tuple(-(-s // p) * p for s, p in zip(size, patch_size))
        raise ValueError(
            f"the volume has D, H, W = {tuple(size)}, which the patch size {tuple(patch_size)} does not divide; "
            f"the nearest valid sizes are {below} and {above}. Crop, pad or resample in the data pipeline."
        )
    return as_grid([s // p for s, p in zip(size, patch_size)])


def as_grid(sizes: Sequence[int]) -> tuple[int, int, int]:
    """Three sizes (z, y, x) as a tuple."""
    d, h, w = sizes
    return d, h, w
