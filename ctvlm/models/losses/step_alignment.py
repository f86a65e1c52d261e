"""Patches, pooled by each reasoning step, against that step."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ctvlm.models.losses.functional import info_nce
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.registry import LOSSES
from ctvlm.utils.distributed import all_gather_with_grad


@LOSSES.register_module()
class StepAlignmentLoss(nn.Module):
    """InfoNCE between each step's text and the patches of its case, pooled by that text's attention.

    Negatives are the other steps of the case and of the batch. The idea is GLoRIA's (Huang et al., 2021),
    with reasoning steps in place of words.

    Args:
        loss_weight: factor of the term in the sum.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight
        self.logit_scale = LogitScale()

    def forward(self, pooled_MP: Tensor, text_MP: Tensor, text_ids_M: Tensor) -> Tensor:
        pooled_MP = all_gather_with_grad(F.normalize(pooled_MP, dim=-1))
        text_MP = all_gather_with_grad(F.normalize(text_MP, dim=-1))
        text_ids_M = all_gather_with_grad(text_ids_M)
        if len(pooled_MP) == 0:
            return 0.0 * (pooled_MP.sum() + text_MP.sum() + self.logit_scale())
        return self.loss_weight * info_nce(pooled_MP, text_MP, self.logit_scale(), text_ids_M)
