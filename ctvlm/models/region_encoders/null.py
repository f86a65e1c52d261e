"""No regions, as a baseline."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding, all_background
from ctvlm.registry import REGION_ENCODERS
from ctvlm.structures import TokenContext


@REGION_ENCODERS.register_module()
class NullRegionEncoder(RegionEncoder):
    """The map is ignored: every patch is background, region tokens are zero, blocks do not attend to regions."""

    provides_regions = False

    def __init__(self, embed_dims: int, num_regions: int = 20) -> None:
        super().__init__(embed_dims, num_regions)
        del self.region_embedding

    def assign(self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        return RegionEncoding(all_background(tokens_BNE, self.num_regions))

    def region_tokens(self, tokens_BNE: Tensor, assignment_BNR1: Tensor) -> Tensor:
        return tokens_BNE.new_zeros(tokens_BNE.shape[0], self.num_regions, self.embed_dims)
