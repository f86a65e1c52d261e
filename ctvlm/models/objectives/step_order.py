"""Order of the steps of a case from their patches."""

from __future__ import annotations

from typing import Any

from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext, request_steps
from ctvlm.models.objectives.text_bank import TextBank
from ctvlm.registry import OBJECTIVES
from ctvlm.structures import MeanTerms


@OBJECTIVES.register_module()
class StepOrderObjective(Objective):
    """Predict which of two steps comes first from the patches that are pooled for them.

    Args:
        pool_by_mask: as StepTextObjective.
        kwargs: as Objective.
    """

    default_loss = "StepOrderLoss"

    def __init__(self, pool_by_mask: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.pool_by_mask = pool_by_mask

    def loss_args(self) -> dict[str, Any]:
        return dict(embed_dims=self.shared_dims)

    def request(self, texts: TextBank) -> None:
        request_steps(texts)

    def features(self, context: BatchContext) -> MeanTerms:
        pooled_BSP = context.pooled_steps(self.pool_by_mask)
        return MeanTerms(self.criterion.terms(pooled_BSP, context.steps.mask_BS))
