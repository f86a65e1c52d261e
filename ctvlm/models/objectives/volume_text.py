"""Volume compared with impression."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F

from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext
from ctvlm.models.objectives.text_bank import TextBank
from ctvlm.models.objectives.text_ids import text_id
from ctvlm.registry import OBJECTIVES
from ctvlm.structures import Pairs


@OBJECTIVES.register_module()
class VolumeTextObjective(Objective):
    """Align each volume with its impression. A case without an impression is not a pair.

    Predictions: ``pred_volume`` (P) and ``pred_impression`` (P; None without an impression), normalised.
    """

    default_loss = "CrossModalContrastiveLoss"
    needs = frozenset({"pred_volume", "pred_impression"})

    def request(self, texts: TextBank) -> None:
        for case, sample in enumerate(texts.samples):
            texts.request(case, [sample.impression])

    def features(self, context: BatchContext) -> Pairs:
        cases = [case for case, sample in enumerate(context.samples) if sample.impression.strip()]
        impressions = [context.samples[case].impression for case in cases]
        volume_BP = context.volume_BP
        columns_2M = torch.tensor([cases, [text_id(text) for text in impressions]], dtype=torch.long)
        cases_M, ids_M = columns_2M.to(volume_BP.device, non_blocking=True)
        return Pairs(volume_BP[cases_M], context.texts.embed(impressions), ids_M)

    def logit_scale(self) -> float:
        """Factor of cosine similarities in the loss; 1 for a loss without one."""
        scale = getattr(self.criterion, "logit_scale", None)
        return 1.0 if scale is None else scale().item()

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        if "pred_volume" in keys:
            volume_BP = F.normalize(context.volume_BP, dim=-1).float().cpu()
            for sample, volume_P in zip(context.samples, volume_BP, strict=True):
                sample.pred_volume = volume_P
        if "pred_impression" in keys:
            for sample in context.samples:
                has_impression = bool(sample.impression.strip())
                text_1P = context.texts.unit_embed([sample.impression]) if has_impression else None
                sample.pred_impression = None if text_1P is None else text_1P[0]
