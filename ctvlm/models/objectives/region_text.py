"""Regions compared with the steps that mention them."""

from __future__ import annotations

from collections.abc import Collection

import torch.nn.functional as F

from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext, request_steps
from ctvlm.models.objectives.region_mentions import RegionMentions
from ctvlm.models.objectives.text_bank import TextBank
from ctvlm.registry import OBJECTIVES
from ctvlm.structures import Pairs


@OBJECTIVES.register_module()
class RegionTextObjective(Objective):
    """Align each region with the mean embedding of the steps that mention it.

    Predictions: ``pred_regions`` (R, P), normalised, and ``pred_region_mask`` (R), True for a region in the volume.
    """

    default_loss = "RegionAlignmentLoss"
    needs = frozenset({"pred_regions", "pred_region_mask"})

    def request(self, texts: TextBank) -> None:
        request_steps(texts)

    def features(self, context: BatchContext) -> Pairs:
        _, region_BRP, mask_BR = context.regions
        mentions = RegionMentions.from_samples(context.samples, mask_BR)
        text_MP = mentions.mean_text(F.normalize(context.texts.embed(mentions.steps), dim=-1))
        region_MP = region_BRP[mentions.cases, mentions.regions - 1]
        return Pairs(region_MP, text_MP, mentions.text_ids, mentions.regions, mentions.present)

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        _, region_BRP, mask_BR = context.regions
        region_BRP = F.normalize(region_BRP, dim=-1).float().cpu()
        for b, sample in enumerate(context.samples):
            if "pred_regions" in keys:
                sample.pred_regions = region_BRP[b]
            if "pred_region_mask" in keys:
                sample.pred_region_mask = mask_BR[b].cpu()
