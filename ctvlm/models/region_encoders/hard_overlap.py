"""Assignment of each patch to one region of a label map."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding, all_background
from ctvlm.models.region_encoders.overlap import overlap_of
from ctvlm.registry import REGION_ENCODERS
from ctvlm.structures import TokenContext


@REGION_ENCODERS.register_module()
class HardOverlapRegionEncoder(RegionEncoder):
    """Each patch belongs to the region (or the background) with the largest overlap; the lowest id if equal.

    A region smaller than half a patch may have no patch. Without a map, all patches are background.
    """

    def assign(self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        if region_map_BDHW is None:
            return RegionEncoding(all_background(tokens_BNE, self.num_regions))
        shares_BNR1 = overlap_of(region_map_BDHW, ctx, self.num_regions).shares_BNR1
        largest_BN1 = shares_BNR1.argmax(dim=-1, keepdim=True)
        # Not zeros_like: NaN, which marks a map with an unknown id, must reach the result.
        return RegionEncoding(ctx.gather((shares_BNR1 * 0).scatter_(-1, largest_BN1, 1)))
