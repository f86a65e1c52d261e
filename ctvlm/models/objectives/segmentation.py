"""Regions predicted on a grid compared with the region map."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ctvlm.models.heads.region_map import add_region_maps
from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext
from ctvlm.registry import HEADS, OBJECTIVES
from ctvlm.structures import MeanTerms


@OBJECTIVES.register_module()
class SegmentationObjective(Objective):
    """Predict the regions of patches or finer cells. The target is their exact overlap with the region map.

    Predictions: ``pred_region_map`` (D, H, W), uint8. If several objectives predict a map, the last one is kept.

    Args:
        head: config of a head ``(encoded, hu_B1DHW) -> logits (B, R + 1, d', h', w')``; column 0 is background.
        kwargs: as Objective.
    """

    default_loss = "SegmentationLoss"
    needs = frozenset({"pred_region_map"})

    def __init__(self, head: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.head = HEADS.build(head, default_args=dict(in_dims=self.vision_dims))

    def features(self, context: BatchContext) -> MeanTerms:
        logits_BRdhw = self._logits(context)
        d, h, w = logits_BRdhw.shape[2:]
        grid = (d, h, w)
        target = context.anatomy_on(grid)
        if target is None:
            return MeanTerms.none(logits_BRdhw)
        known_BN = target.known_BN > 0
        if grid == tuple(context.encoded.grid):
            known_BN = known_BN & context.encoded.token_mask
        return MeanTerms(self.criterion.terms(logits_BRdhw.flatten(2).transpose(1, 2), target.shares_BNR1, known_BN))

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        logits_BRdhw = self._logits(context).float()
        if tuple(logits_BRdhw.shape[2:]) == tuple(context.encoded.grid):
            logits_BRdhw = _background_outside(logits_BRdhw, context.encoded.token_mask)
        add_region_maps(logits_BRdhw, context.inputs["volume"], context.samples)

    def _logits(self, context: BatchContext) -> Tensor:
        return self.head(context.encoded, context.inputs["volume"])


def _background_outside(logits_BRdhw: Tensor, token_mask_BN: Tensor) -> Tensor:
    """Logits in which patches that the encoder dropped are background."""
    outside_R111 = logits_BRdhw.new_full((logits_BRdhw.shape[1], 1, 1, 1), float(logits_BRdhw.min()) - 1)
    outside_R111[0] = logits_BRdhw.max() + 1
    return torch.where(token_mask_BN.unflatten(1, logits_BRdhw.shape[2:])[:, None], logits_BRdhw, outside_R111)
