"""Regions from a label map, each patch wholly in one."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding, all_background
from ctvlm.models.region_encoders.overlap import patch_overlap
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
        shares_BNR1, _ = patch_overlap(region_map_BDHW, ctx.grid, self.num_regions)
        largest_BN1 = shares_BNR1.argmax(dim=-1, keepdim=True)
        return RegionEncoding(ctx.gather(shares_BNR1.zero_().scatter_(-1, largest_BN1, 1)))
