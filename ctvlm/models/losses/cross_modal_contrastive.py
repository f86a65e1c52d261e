"""Volume against impression."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ctvlm.models.losses.functional import info_nce
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.registry import LOSSES
from ctvlm.utils.distributed import all_gather_with_grad


@LOSSES.register_module()
class CrossModalContrastiveLoss(nn.Module):
    """InfoNCE between global embeddings and texts, over the batch of all ranks.

    Args:
        loss_weight: factor of the term in the sum.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight
        self.logit_scale = LogitScale()

    def forward(self, image_BP: Tensor, text_BP: Tensor, text_ids_B: Tensor) -> Tensor:
        image_MP = all_gather_with_grad(F.normalize(image_BP, dim=-1))
        text_MP = all_gather_with_grad(F.normalize(text_BP, dim=-1))
        text_ids_M = all_gather_with_grad(text_ids_B)
        return self.loss_weight * info_nce(image_MP, text_MP, self.logit_scale(), text_ids_M)
