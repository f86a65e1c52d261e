"""Projections of volumes, regions, patches and texts to one width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ctvlm.models.space.step_attention import step_attention
from ctvlm.registry import HEADS, NECKS
from ctvlm.structures import EncoderOutput
from ctvlm.utils import check_choice


def _softmax_shares(score_BR: Tensor) -> Tensor:
    # A constant score of 0 for "no region" lets a volume ignore its regions.
    return F.pad(score_BR, (0, 1)).softmax(dim=1)[:, :-1]


def _sigmoid_shares(score_BR: Tensor) -> Tensor:
    # At first a share is about 0.1, so that 20 regions do not outweigh the pooled volume.
    return (score_BR - 2).sigmoid()


SHARES = {"softmax": _softmax_shares, "sigmoid": _sigmoid_shares}


@HEADS.register_module()
class SharedSpace(nn.Module):
    """Volume, region, patch and text embeddings of width P, not normalised.

    Args:
        vision_dims: width of the vision encoder.
        text_dims: width of the text encoder.
        shared_dims: width P of the shared space.
        volume_pooling, region_pooling: configs of the necks that pool patches.
        volume_projection, region_projection, patch_projection, text_projection: configs of the projections.
        shared_projection: use the volume projection for regions and patches too, so that a model trained on volumes
            alone also embeds regions and patches.
        regions_in_volume: add the region embeddings to the volume embedding, weighted by a learned score. The volume
            embedding then uses what the regions have learned from their mentions. True or ``"softmax"``: the weights
            are a softmax over the regions and the constant 0 of "no region". ``"sigmoid"``: of each region's score, so
            that several findings of a case do not share one weight.
        step_scale: inverse temperature of the attention of a step over patches.
    """

    def __init__(
        self,
        vision_dims: int,
        text_dims: int,
        shared_dims: int = 256,
        volume_pooling: dict | None = None,
        region_pooling: dict | None = None,
        volume_projection: dict | None = None,
        region_projection: dict | None = None,
        patch_projection: dict | None = None,
        text_projection: dict | None = None,
        shared_projection: bool = False,
        regions_in_volume: bool | str = False,
        step_scale: float = 10.0,
    ) -> None:
        super().__init__()
        shares = "softmax" if regions_in_volume is True else regions_in_volume
        if shares:
            check_choice("SharedSpace", "regions_in_volume", shares, SHARES)
        self.shared_dims = shared_dims
        self.step_scale = step_scale
        pooled = dict(in_dims=vision_dims)
        vision, text = dict(in_dims=vision_dims, out_dims=shared_dims), dict(in_dims=text_dims, out_dims=shared_dims)
        self.volume_pooling = NECKS.build(volume_pooling or dict(type="VolumePooling"), default_args=pooled)
        self.region_pooling = NECKS.build(region_pooling or dict(type="RegionPooling"), default_args=pooled)
        self.volume_projection = HEADS.build(volume_projection or dict(type="VolumeProjection"), default_args=vision)
        if shared_projection:
            self.region_projection = self.patch_projection = self.volume_projection
        else:
            region_projection = region_projection or dict(type="RegionProjection")
            patch_projection = patch_projection or dict(type="PatchProjection")
            self.region_projection = HEADS.build(region_projection, default_args=vision)
            self.patch_projection = HEADS.build(patch_projection, default_args=vision)
        self.text_projection = HEADS.build(text_projection or dict(type="TextProjection"), default_args=text)
        self.region_score = nn.Linear(vision_dims, 1) if shares else None
        self.share_regions = SHARES[shares] if shares else None

    def embed_regions(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled regions (B, R, E), their embeddings (B, R, P), and a mask of regions present (B, R)."""
        region_BRE, mask_BR = self.region_pooling(encoded)
        return region_BRE, self.region_projection(region_BRE), mask_BR

    def embed_volume(self, encoded: EncoderOutput, regions: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """Volume embeddings (B, P). ``regions`` is the result of ``embed_regions``, if it is known already."""
        volume_BP = self.volume_projection(self.volume_pooling(encoded))
        if self.region_score is None or self.share_regions is None:
            return volume_BP
        region_BRE, region_BRP, mask_BR = self.embed_regions(encoded) if regions is None else regions
        share_BR = self.share_regions(self.region_score(region_BRE)[..., 0].masked_fill(~mask_BR, float("-inf")))
        return volume_BP + (share_BR[:, None] @ F.normalize(region_BRP, dim=-1))[:, 0]

    def embed_patches(self, tokens_BNE: Tensor) -> Tensor:
        """Patch embeddings (B, N, P)."""
        return self.patch_projection(tokens_BNE)

    def embed_texts(self, text_UE: Tensor) -> Tensor:
        """Text embeddings (U, P) from the features of the text encoder."""
        return self.text_projection(text_UE)

    def step_attention(self, step_BSP: Tensor, patch_BNP: Tensor, token_mask_BN: Tensor) -> Tensor:
        """Attention of each step's text over the patches of its own case (B, S, N)."""
        return step_attention(step_BSP, patch_BNP, self.step_scale, token_mask_BN)
