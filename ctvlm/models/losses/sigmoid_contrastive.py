"""SigLIP's objective, for any level."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctvlm.models.losses.contrastive import ContrastiveLoss, NormalPairs
from ctvlm.models.losses.functional import sigmoid_pairs
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class SigmoidContrastiveLoss(ContrastiveLoss):
    """Logistic loss of every pair of all ranks, for volumes, regions and steps; arguments as ``ContrastiveLoss``.

    Scale (from 10) and bias (from -10) are learned, as in SigLIP (Zhai et al., 2023); all pairs of equal texts are
    positives.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.logit_scale = LogitScale(init=10.0)
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    def row_sum(self, rows: NormalPairs, columns: NormalPairs, positive: Tensor, allowed: Tensor | None) -> Tensor:
        return sigmoid_pairs(rows.visual, columns.text, self.logit_scale(), self.logit_bias, positive, allowed)
