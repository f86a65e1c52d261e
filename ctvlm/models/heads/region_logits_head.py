"""Regions that the encoder predicts itself."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from ctvlm.registry import HEADS
from ctvlm.structures import EncoderOutput


@HEADS.register_module()
class RegionLogitsHead(nn.Module):
    """Region logits (B, R + 1, d, h, w) of LearnedRegionEncoder, to train them; has no weights.

    Without this head the encoder's classifier only receives gradients through the use of its prediction in the
    blocks, and none at all if every case has a region map (``map_weight=1``).

    Args:
        in_dims: not used; heads are built with the encoder's width.

    Raises:
        ValueError: in ``forward``, if the encoder does not predict regions.
    """

    def __init__(self, in_dims: int | None = None) -> None:
        super().__init__()

    def forward(self, encoded: EncoderOutput, hu_B1DHW: Tensor) -> Tensor:
        if encoded.region_logits is None:
            raise ValueError(
                "RegionLogitsHead: the encoder gives no region logits; set "
                "backbone.region_encoder=dict(type='LearnedRegionEncoder'), or use SegmentationHead"
            )
        return encoded.region_logits.transpose(1, 2).unflatten(2, encoded.grid)
