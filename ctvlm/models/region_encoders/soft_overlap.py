"""Regions from a label map by exact overlap."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import TokenContext, check_choice
from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding, all_background
from ctvlm.models.region_encoders.overlap import check_region_map, patch_overlap
from ctvlm.registry import REGION_ENCODERS

OVERLAPS = ("exact", "conv")


@REGION_ENCODERS.register_module(name=["SoftOverlapRegionEncoder", "AnatomicalStructureEncoder"])
class SoftOverlapRegionEncoder(RegionEncoder):
    """A patch belongs to a region by the share of its voxels that lie in it. Without a map, all is background.

    Args:
        overlap: ``'exact'`` counts voxels. ``'conv'`` is the literal form of the spec: a learned 3x3x3 convolution
            to E channels reads the ids as one float channel at full resolution; its mean over a patch is
            compared with the region embeddings (and a background embedding), and the softmax is the assignment.
            Not the default: ids read as numbers make region 7 "larger" than region 3. (Convolved as written, 64x512x512
            and E = 768 need 51 GB; here the mean comes first, with the same result.)
    """

    def __init__(self, embed_dims: int, num_regions: int = 20, overlap: str = "exact") -> None:
        super().__init__(embed_dims, num_regions)
        check_choice("SoftOverlapRegionEncoder", "overlap", overlap, OVERLAPS)
        self.overlap = overlap
        if overlap == "conv":
            self.mask_conv = nn.Conv3d(1, embed_dims, kernel_size=3, padding=1)
            self.background_embedding = nn.Parameter(torch.zeros(1, embed_dims))

    def assign(self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        if region_map_BDHW is None:
            return RegionEncoding(all_background(tokens_BNE, self.num_regions))
        if self.overlap == "conv":
            return RegionEncoding(ctx.gather(self._conv_overlap(region_map_BDHW, ctx.grid)))
        shares_BNR1, _ = patch_overlap(region_map_BDHW, ctx.grid, self.num_regions)
        return RegionEncoding(ctx.gather(shares_BNR1))

    def _conv_overlap(self, region_map_BDHW: Tensor, grid: tuple[int, int, int]) -> Tensor:
        check_region_map(region_map_BDHW, self.num_regions)
        ids_B1DHW = region_map_BDHW[:, None].clamp(min=0).to(self.mask_conv.weight.dtype)
        # The mean over a patch of what the convolution gives is the convolution of the means over the patch, moved
        # by each of its 27 offsets: the same numbers without E channels at full resolution.
        depth, height, width = ids_B1DHW.shape[2:]
        around_B1DHW = nn.functional.pad(ids_B1DHW, (1,) * 6)
        means_B1dhw = [
            nn.functional.adaptive_avg_pool3d(around_B1DHW[..., z : z + depth, y : y + height, x : x + width], grid)
            for z, y, x in product(range(3), repeat=3)
        ]
        means_BNo = torch.cat(means_B1dhw, dim=1).flatten(2).transpose(1, 2)
        features_BNE = nn.functional.linear(means_BNo, self.mask_conv.weight.flatten(1), self.mask_conv.bias)
        anchors_R1E = torch.cat([self.background_embedding, self.region_embedding])
        logits_BNR1 = features_BNE @ anchors_R1E.T * self.embed_dims**-0.5
        dtype = torch.promote_types(logits_BNR1.dtype, torch.float32)
        return logits_BNR1.softmax(dim=-1, dtype=dtype)
