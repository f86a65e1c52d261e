"""Volume or step compared with a sentence and its opposites."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext, request_steps
from ctvlm.models.objectives.opposite_sentences import opposite_sentences
from ctvlm.models.objectives.text_bank import TextBank
from ctvlm.registry import OBJECTIVES
from ctvlm.structures import MeanTerms
from ctvlm.utils import check_choice

VIEWS = ("volume", "step")


@OBJECTIVES.register_module()
class OppositeTextObjective(Objective):
    """Compare each reasoning step with its opposites: negation, side and size changed by rule.

    Steps without an applicable rule do not count (see ``opposite_sentences``). The rules are for English.

    Predictions: ``pred_opposites``, one dict per opposite with ``kind``, ``text`` and ``opposite``, and
    ``pred_opposite_texts`` (O, 2, P), the normalised embeddings of both texts.

    Args:
        view: what the texts are compared with: ``"volume"``, or ``"step"``, the patches of the step's lesion or
            regions.
        kwargs: as Objective.
    """

    default_loss = "OppositeTextLoss"
    needs = frozenset({"pred_opposites", "pred_opposite_texts"})

    def __init__(self, view: str = "volume", **kwargs) -> None:
        super().__init__(**kwargs)
        check_choice("OppositeTextObjective", "view", view, VIEWS)
        self.view = view

    def request(self, texts: TextBank) -> None:
        if self.view == "step":
            request_steps(texts)
        for case, sample in enumerate(texts.samples):
            for sentence in opposite_sentences(sample):
                texts.request(case, [sentence.text, *(opposite.text for opposite in sentence.opposites)])

    def features(self, context: BatchContext) -> MeanTerms:
        found = [(case, one) for case, sample in enumerate(context.samples) for one in opposite_sentences(sample)]
        visual = context.volume_BP if self.view == "volume" else context.pooled_steps(pool_by_mask=True)
        device, width = visual.device, max((len(one.opposites) for _, one in found), default=1)
        places_M2 = torch.tensor([(case, one.step) for case, one in found], dtype=torch.long).view(-1, 2)
        cases_M, steps_M = places_M2.to(device, non_blocking=True).T
        visual_MP = visual[cases_M] if self.view == "volume" else visual[cases_M, steps_M]
        # Padded with the sentence itself.
        padded = [[one.text] * width for _, one in found]
        mask_MO = torch.zeros(len(found), width, dtype=torch.bool)
        for m, (_, one) in enumerate(found):
            padded[m][: len(one.opposites)] = [opposite.text for opposite in one.opposites]
            mask_MO[m, : len(one.opposites)] = True
        text_MP = context.texts.embed([one.text for _, one in found])
        opposite_MOP = context.texts.embed([text for row in padded for text in row]).unflatten(0, (len(found), width))
        return MeanTerms(self.criterion.terms(visual_MP, text_MP, opposite_MOP, mask_MO.to(device, non_blocking=True)))

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        for sample in context.samples:
            pairs = [(one, opposite) for one in opposite_sentences(sample) for opposite in one.opposites]
            if "pred_opposites" in keys:
                sample.pred_opposites = [
                    dict(kind=opposite.kind, text=one.text, opposite=opposite.text) for one, opposite in pairs
                ]
            if "pred_opposite_texts" in keys:
                texts = [text for one, opposite in pairs for text in (one.text, opposite.text)]
                sample.pred_opposite_texts = context.texts.unit_embed(texts).unflatten(0, (len(pairs), 2))
