"""Attention of steps compared with their targets."""

from __future__ import annotations

from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext, request_steps
from ctvlm.models.objectives.text_bank import TextBank
from ctvlm.registry import OBJECTIVES
from ctvlm.structures import MeanTerms


@OBJECTIVES.register_module()
class AttentionFocusObjective(Objective):
    """Focus the attention of each step on the patches of its lesion or regions."""

    default_loss = "AttentionFocusLoss"

    def request(self, texts: TextBank) -> None:
        request_steps(texts)

    def features(self, context: BatchContext) -> MeanTerms:
        return MeanTerms(self.criterion.terms(context.step_attention_BSN, context.step_target_BSN))
