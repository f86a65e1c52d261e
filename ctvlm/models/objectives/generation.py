"""Reasoning and impression generated from the features of a case."""

from __future__ import annotations

from collections.abc import Collection

from ctvlm.models.heads.generation.base import PREDICTIONS
from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext
from ctvlm.registry import HEADS, OBJECTIVES
from ctvlm.structures import MeanTerms


@OBJECTIVES.register_module()
class GenerationObjective(Objective):
    """Language modelling of the steps and the impression of a case.

    Predictions: ``pred_report`` (the steps, then the impression), ``pred_cot`` (list of ``text`` and ``regions``,
    names of the scheme) and ``pred_conclusion`` (the impression).

    Args:
        head: config of a generation head.
        kwargs: as Objective.
    """

    default_loss = "GenerationLoss"
    needs = PREDICTIONS

    def __init__(self, head: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.head = HEADS.build(head, default_args=dict(in_dims=self.vision_dims))

    def features(self, context: BatchContext) -> MeanTerms:
        return MeanTerms(self.criterion.terms(*self.head.training_logits(context.encoded, context.samples)))

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        self.head.predict(context.encoded, context.samples, keys)
