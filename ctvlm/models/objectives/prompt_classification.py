"""Volume compared with prompts that state that a finding is present or absent."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext
from ctvlm.models.objectives.classification import label_rows
from ctvlm.models.objectives.text_bank import TextBank
from ctvlm.registry import OBJECTIVES
from ctvlm.structures import MeanTerms
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.text.prompts import PRESENT_TEMPLATES, Template, prompt_pairs, prompt_texts


@OBJECTIVES.register_module()
class PromptClassificationObjective(Objective):
    """Train zero-shot classification with labels, as RadFinder and COLIPRI do. Unknown labels do not count.

    Args:
        names: the findings, as in ``labels`` of the samples.
        templates: pairs of prompts (present, absent) with ``{}`` for the finding; the normalised embeddings of several
            templates are averaged.
        kwargs: as Objective.

    Raises:
        ValueError: no names, a name that occurs twice, or no templates.
    """

    default_loss = "PromptClassificationLoss"

    def __init__(
        self,
        names: Sequence[str] = CT_RATE_LABELS,
        templates: Sequence[Template] = PRESENT_TEMPLATES,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.names = list(names)
        self.templates = [(present, absent) for present, absent in templates]
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"PromptClassificationObjective: names = {self.names}; expected one or more findings, each once"
            )
        if not self.templates:
            raise ValueError("PromptClassificationObjective: found no templates; expected pairs (present, absent)")

    def request(self, texts: TextBank) -> None:
        texts.request(0, prompt_texts(self.names, self.templates))

    def features(self, context: BatchContext) -> MeanTerms:
        present_CP, absent_CP = (self._embed(context.texts, side) for side in (0, 1))
        volume_BP = context.volume_BP
        labels_BC = label_rows(context.samples, self.names).to(volume_BP, non_blocking=True)
        return MeanTerms(self.criterion.terms(volume_BP, present_CP, absent_CP, labels_BC))

    def _embed(self, texts: TextBank, side: int) -> Tensor:
        """Normalised mean over the templates of the normalised prompts of all findings (C, P)."""
        prompts = [pair[side] for name in self.names for pair in prompt_pairs(name, self.templates)]
        units_CTP = F.normalize(texts.embed(prompts), dim=-1).unflatten(0, (len(self.names), len(self.templates)))
        return F.normalize(units_CTP.mean(dim=1), dim=-1)
