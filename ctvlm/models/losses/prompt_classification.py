"""Volumes compared with prompts of findings."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.losses.base import MeanLoss
from ctvlm.models.losses.functional import classification_terms
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.registry import LOSSES
from ctvlm.structures import widened


@LOSSES.register_module()
class PromptClassificationLoss(MeanLoss):
    """Binary cross-entropy of the cosine to the "present" prompt minus that to the "absent" prompt, times a scale.

    The sigmoid of this logit is the probability of zero-shot classification, a softmax over the two prompts. The
    scale is learned.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.logit_scale = LogitScale()

    def terms(self, volume_BP: Tensor, present_CP: Tensor, absent_CP: Tensor, labels_BC: Tensor) -> Tensor:
        """Sum and count (2) over known labels, in float32 or wider.

        Args:
            volume_BP: embeddings, not normalised.
            present_CP, absent_CP: normalised embeddings of the prompts.
            labels_BC: 1, 0, or NaN for an unknown label.
        """
        volume_BP = F.normalize(widened(volume_BP), dim=-1)
        margin_BC = (volume_BP[:, None] * (widened(present_CP) - widened(absent_CP))).sum(dim=-1)
        return classification_terms(self.logit_scale() * margin_BC, labels_BC.to(margin_BC))
