"""Assignment of patches by their exact overlap with a label map."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding, all_background
from ctvlm.models.region_encoders.overlap import overlap_of
from ctvlm.registry import REGION_ENCODERS
from ctvlm.structures import TokenContext


@REGION_ENCODERS.register_module(name=["SoftOverlapRegionEncoder", "AnatomicalStructureEncoder"])
class SoftOverlapRegionEncoder(RegionEncoder):
    """The assignment is the share of a patch's voxels in each region. Without a map, all patches are background.

    The corrected form of the spec's AnatomicalStructureEncoder. ``MaskCNNRegionEncoder`` is the literal form.
    """

    def assign(self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        if region_map_BDHW is None:
            return RegionEncoding(all_background(tokens_BNE, self.num_regions))
        return RegionEncoding(ctx.gather(overlap_of(region_map_BDHW, ctx, self.num_regions).shares_BNR1))
