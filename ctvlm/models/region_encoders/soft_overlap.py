"""Regions from a label map by exact overlap."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding, all_background
from ctvlm.models.region_encoders.overlap import overlap_of
from ctvlm.registry import REGION_ENCODERS
from ctvlm.structures import TokenContext


@REGION_ENCODERS.register_module(name=["SoftOverlapRegionEncoder", "AnatomicalStructureEncoder"])
class SoftOverlapRegionEncoder(RegionEncoder):
    """A patch belongs to a region by the share of its voxels that lie in it. Without a map, all is background.

    The corrected form of the spec's AnatomicalStructureEncoder. ``MaskCNNRegionEncoder`` is the literal form.
    """

    def assign(self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        if region_map_BDHW is None:
            return RegionEncoding(all_background(tokens_BNE, self.num_regions))
        return RegionEncoding(ctx.gather(overlap_of(region_map_BDHW, ctx, self.num_regions).shares_BNR1))
