"""The spec's classes with the names and signatures of the spec.

They wrap the registered literal components (``LiteralVisionEncoder``, ``PostNormBlock``,
``LiteralSliceAwareAttention``, ``LiteralRegionAwareAttention``, ``MaskCNNRegionEncoder``,
``FixedTemperatureContrastiveLoss``) and take tensors instead of a TokenContext. Configs use the registered components,
see ``configs/ablations/literal.py``. The default model has the corrected forms.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import get_rank
from torch import Tensor, nn

from ctvlm.models import attention, backbones, layers, losses, necks, region_encoders
from ctvlm.structures import EncoderOutput, Pairs, TokenContext


class ThreeDPatchEmbedding(layers.ThreeDPatchEmbedding):
    """Conv3d with kernel and stride ``patch_size``: (B, C, D, H, W) to (B, N, E), N z-major."""

    def __init__(
        self,
        img_size: tuple[int, int, int] = (64, 512, 512),
        patch_size: tuple[int, int, int] = (4, 16, 16),
        in_channels: int = 1,
        embed_dim: int = 768,
    ) -> None:
        super().__init__(in_channels, embed_dim, patch_size)
        self.grid_size = self.grid_of(layers.patch_embedding.as_grid(img_size))
        self.num_patches = self.grid_size[0] * self.grid_size[1] * self.grid_size[2]


class AnatomicalStructureEncoder(region_encoders.MaskCNNRegionEncoder):
    """Region ids (B, D, H, W) to ``region_features`` (B, E, D, H, W); ``region_embedding`` has one vector per region.

    Raises:
        MemoryError, ValueError: see MaskCNNRegionEncoder.
    """

    def __init__(self, num_regions: int = 20, embed_dim: int = 768, max_memory_gb: float | None = None) -> None:
        super().__init__(embed_dim, num_regions, max_memory_gb=max_memory_gb)

    def forward(self, region_mask_BDHW: Tensor) -> Tensor:  # type: ignore[override]
        return self.region_features(region_mask_BDHW)


class SliceAwareAttention(attention.LiteralSliceAwareAttention):
    """Self-attention of tokens (B, N, E) with a bias for the distance between their slices (N)."""

    def __init__(self, dim: int = 768, num_heads: int = 12, slice_distance_weight: float = 0.5) -> None:
        super().__init__(dim, num_heads, slice_distance_weight)

    def forward(self, x_BNE: Tensor, slices_N: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x_BNE, _context(x_BNE, slices_N))


class RegionAwareAttention(attention.LiteralRegionAwareAttention):
    """Attention of tokens (B, N, E) to regions (B, R, E); scores are multiplied by ``assignment`` (B, N, R)."""

    def __init__(self, dim: int = 768, num_heads: int = 12) -> None:
        super().__init__(dim, num_heads)

    def forward(self, x_BNE: Tensor, regions_BRE: Tensor, assignment_BNR: Tensor) -> Tensor:  # type: ignore[override]
        slices_N = torch.zeros(x_BNE.shape[1], dtype=torch.long)
        return super().forward(x_BNE, _context(x_BNE, slices_N, regions_BRE, assignment_BNR))


class ThreeDTransformerBlock(layers.PostNormBlock):
    """Slice-aware attention, region-aware attention, MLP, each with Add & Norm: (B, N, E) to (B, N, E)."""

    def __init__(
        self, dim: int = 768, num_heads: int = 12, mlp_ratio: float = 4.0, slice_distance_weight: float = 0.5
    ) -> None:
        by_slice = dict(type="LiteralSliceAwareAttention", slice_distance_weight=slice_distance_weight)
        super().__init__(dim, num_heads, by_slice, dict(type="LiteralRegionAwareAttention"), mlp_ratio)

    def forward(  # type: ignore[override]
        self, x_BNE: Tensor, slices_N: Tensor, regions_BRE: Tensor, assignment_BNR: Tensor
    ) -> Tensor:
        return super().forward(x_BNE, _context(x_BNE, slices_N, regions_BRE, assignment_BNR))


class RegionPooling(nn.Module):
    """Mean of patch features (B, N, E), weighted by ``assignment`` (B, N, R): (B, R, E)."""

    def forward(self, patch_features_BNE: Tensor, assignment_BNR: Tensor) -> Tensor:
        return region_encoders.pool_by_assignment(patch_features_BNE, assignment_BNR)


class ThreeDVisionEncoder(nn.Module):
    """The encoder with mean pooling and linear heads of width E; see ``output_dict`` for the outputs.

    Raises:
        MemoryError, ValueError: see LiteralVisionEncoder.
    """

    def __init__(
        self,
        img_size: tuple[int, int, int] = (64, 512, 512),
        patch_size: tuple[int, int, int] = (4, 16, 16),
        in_channels: int = 1,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        num_regions: int = 20,
    ) -> None:
        super().__init__()
        self.backbone = backbones.LiteralVisionEncoder(
            img_size=img_size,
            embed_dims=embed_dim,
            depth=depth,
            num_regions=num_regions,
            patch_embed=dict(patch_size=patch_size, in_channels=in_channels),
            block=dict(num_heads=num_heads),
        )
        self.volume_pooling = necks.VolumePooling()
        self.region_pooling = necks.RegionPooling()
        self.volume_projection = nn.Linear(embed_dim, embed_dim)
        self.patch_projection = nn.Linear(embed_dim, embed_dim)
        self.region_projection = nn.Linear(embed_dim, embed_dim)

    def forward(self, volume_BCDHW: Tensor, region_mask_BDHW: Tensor) -> dict[str, Tensor]:
        return output_dict(self, self.backbone(volume_BCDHW, region_mask_BDHW))


def output_dict(space: Any, encoded: EncoderOutput) -> dict[str, Tensor]:
    """The spec's outputs of an encoded batch.

    ``global`` (B, P): projection of the mean patch. ``local`` (B, N, P): projection of the patches. ``region``
    (B, R, P): projection of the pooled patches of each region, zero before projection for a region not in the map.
    ``patch_features`` (B, N, E): output of the last block.

    Args:
        space: ThreeDVisionEncoder, or the SharedSpace of a model with ``regions_in_volume=False``, which has parts of
            the same names.
    """
    region_BRE, _ = space.region_pooling(encoded)
    return {
        "global": space.volume_projection(space.volume_pooling(encoded)),
        "local": space.patch_projection(encoded.tokens),
        "region": space.region_projection(region_BRE),
        "patch_features": encoded.tokens,
    }


class CrossModalContrastiveLoss(losses.FixedTemperatureContrastiveLoss):
    """Symmetric InfoNCE (scalar) of volumes (B, P) and texts (B, P); rows with the same index are pairs."""

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__(temperature)

    def forward(self, visual_BP: Tensor, text_BP: Tensor) -> Tensor:  # type: ignore[override]
        # Different on every rank, so that each pair has only itself as positive.
        ids_B = torch.arange(len(visual_BP), device=visual_BP.device) + (get_rank() << 32)
        return super().forward(Pairs(visual_BP, text_BP, ids_B))


def _context(
    x_BNE: Tensor, slices_N: Tensor, regions_BRE: Tensor | None = None, assignment_BNR: Tensor | None = None
) -> TokenContext:
    """A context in which token n is in slice ``slices_N[n]``, at position n of a row with one cell per token."""
    batch, tokens, _ = x_BNE.shape
    index_BN = (slices_N * tokens + torch.arange(tokens, device=slices_N.device)).expand(batch, -1)
    grid = (int(slices_N.max()) + 1, 1, tokens)
    ctx = TokenContext(grid, index_BN.to(x_BNE.device), None, x_BNE.new_ones(batch, 3))
    if regions_BRE is None or assignment_BNR is None:
        return ctx
    return ctx.with_regions(F.pad(assignment_BNR, (1, 0)), regions_BRE)
