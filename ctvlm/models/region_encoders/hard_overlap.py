"""Regions from a label map, each patch wholly in one."""

from __future__ import annotations

import torch
from torch import Tensor

from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding, all_background
from ctvlm.models.region_encoders.overlap import overlap_of
from ctvlm.registry import REGION_ENCODERS
from ctvlm.structures import TokenContext


@REGION_ENCODERS.register_module()
class HardOverlapRegionEncoder(RegionEncoder):
    """A patch belongs to the region, or the background, that fills most of it; the lowest id of a tie.

    A region smaller than half a patch may own none. Without a map, all is background.
    """

    def assign(self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        if region_map_BDHW is None:
            return RegionEncoding(all_background(tokens_BNE, self.num_regions))
        shares_BNR1 = overlap_of(region_map_BDHW, ctx, self.num_regions).shares_BNR1
        largest_BN1 = shares_BNR1.argmax(dim=-1, keepdim=True)
        return RegionEncoding(ctx.gather(torch.zeros_like(shares_BNR1).scatter_(-1, largest_BN1, 1)))
