"""Supervision of an encoder that predicts regions itself."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.heads.segmentation_head import PatchSegmentation
from ctvlm.registry import HEADS
from ctvlm.structures import EncoderOutput


@HEADS.register_module()
class RegionLogitsHead(PatchSegmentation):
    """Teaches the patch-to-region logits of LearnedRegionEncoder; has no weights of its own.

    Without it nothing but the use that the blocks make of a prediction reaches the encoder's ``classify``, and with
    ``map_weight=1`` and a map for every case nothing at all does.

    Args:
        in_dims: not used; auxiliary heads are given the encoder's width.

    Raises:
        ValueError: the encoder does not predict regions.
    """

    def __init__(self, in_dims: int | None = None, loss: dict | None = None, loss_weight: float = 1.0) -> None:
        super().__init__(loss, loss_weight)

    def forward(self, encoded: EncoderOutput) -> Tensor:
        if encoded.region_logits is None:
            raise ValueError(
                "RegionLogitsHead: the encoder gives no region logits; set "
                "backbone.region_encoder=dict(type='LearnedRegionEncoder'), or use SegmentationHead"
            )
        return encoded.region_logits

    def logits(self, encoded: EncoderOutput) -> Tensor:
        return self(encoded)
