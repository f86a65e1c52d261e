"""Assignment predicted from the image, for CTs without a label map."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import init_vit
from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding
from ctvlm.models.region_encoders.overlap import overlap_of
from ctvlm.registry import REGION_ENCODERS
from ctvlm.structures import TokenContext
from ctvlm.structures.encoder_output import present_regions


@REGION_ENCODERS.register_module()
class LearnedRegionEncoder(RegionEncoder):
    """Predict each patch's regions from its features. If the case has a map, the map is used instead.

    The features are the input of block ``region_layer`` of the backbone, so the prediction costs one linear layer.
    The segmentation loss compares ``logits`` with the exact overlap of patches and map.

    Args:
        map_weight: weight of the map in the assignment during training, for cases with a map; the rest is the
            prediction. In evaluation the weight is 1.
        use_map_at_eval: use maps in evaluation; False evaluates the prediction on cases with a map.
        presence: a region is in the volume if its predicted share of some patch exceeds this value; on held-out
            phantoms F1 0.98 against the map's regions (0.1: 0.93). With a map, see ``present_regions``.
    """

    reads_features = True

    def __init__(
        self,
        embed_dims: int,
        num_regions: int = 20,
        map_weight: float = 1.0,
        use_map_at_eval: bool = True,
        presence: float = 0.05,
    ) -> None:
        super().__init__(embed_dims, num_regions)
        if not 0 <= map_weight <= 1:
            raise ValueError(f"LearnedRegionEncoder: map_weight = {map_weight}; expected 0 to 1")
        self.map_weight = map_weight
        self.presence = presence
        self.use_map_at_eval = use_map_at_eval
        self.norm = nn.LayerNorm(embed_dims)
        self.classify = nn.Linear(embed_dims, num_regions + 1)
        self.norm.apply(init_vit)
        self.classify.apply(init_vit)

    def assign(self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        logits_BNR1 = self.classify(self.norm(tokens_BNE))
        logits_BNR1 = logits_BNR1.to(torch.promote_types(logits_BNR1.dtype, torch.float32))
        predicted_BNR1 = logits_BNR1.softmax(dim=-1)
        if region_map_BDHW is None:
            return RegionEncoding(predicted_BNR1, logits_BNR1, self._predicted_presence(predicted_BNR1, ctx))
        overlap = overlap_of(region_map_BDHW, ctx, self.num_regions)
        shares_BNR1 = ctx.gather(overlap.shares_BNR1).to(predicted_BNR1)
        use_map = self.training or self.use_map_at_eval
        known_BN1 = ctx.gather(overlap.known_BN[..., None]).to(predicted_BNR1) * float(use_map)
        # Rows keep a sum of 1, and patches of unknown voxels keep their prediction.
        weight_BN1 = known_BN1 * (self.map_weight if self.training else 1.0)
        mixed_BNR1 = torch.lerp(predicted_BNR1, shares_BNR1, weight_BN1)
        presence_BR = present_regions(_without_padding(shares_BNR1 * known_BN1, ctx))
        presence_BR = presence_BR | self._predicted_presence(predicted_BNR1 * (known_BN1 == 0), ctx)
        return RegionEncoding(mixed_BNR1, logits_BNR1, presence_BR)

    def _predicted_presence(self, predicted_BNR1: Tensor, ctx: TokenContext) -> Tensor:
        return _without_padding(predicted_BNR1, ctx)[..., 1:].amax(dim=1) > self.presence


def _without_padding(assignment_BNR1: Tensor, ctx: TokenContext) -> Tensor:
    return assignment_BNR1 if ctx.token_mask_BN is None else assignment_BNR1 * ctx.token_mask_BN[..., None]
