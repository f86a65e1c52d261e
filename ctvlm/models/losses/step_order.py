"""What is looked at first."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ctvlm.models.losses.functional import step_order
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class StepOrderLoss(nn.Module):
    """Tell from the pooled features of two steps of a case which comes first.

    A reader goes through the organs in an order of his own, from findings to what follows from them. A learned
    direction in the shared space gives each step a place in that order; that "before" is the sign of a difference makes
    the order consistent: no step comes before itself, and of two answers one is the opposite of the other.

    Args:
        embed_dims: width P of the shared space.
        loss_weight: factor of the mean over cases.
    """

    def __init__(self, embed_dims: int, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight
        self.place = nn.Linear(embed_dims, 1, bias=False)

    def terms(self, pooled_BSP: Tensor, step_mask_BS: Tensor) -> Tensor:
        """[sum, number of cases] (2) from the patches pooled by each step, steps in the order of the text."""
        return step_order(self.place(F.normalize(pooled_BSP, dim=-1))[..., 0], step_mask_BS)
