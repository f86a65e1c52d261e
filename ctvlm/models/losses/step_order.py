"""Order of the reasoning steps of a case."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ctvlm.models.losses.base import MeanLoss
from ctvlm.models.losses.functional import step_order
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class StepOrderLoss(MeanLoss):
    """Predict from the pooled features of two steps of a case which step comes first.

    Radiologists describe organs in a fixed order, and conclusions after findings. A learned direction in the shared
    space gives each step a score. The sign of the difference of two scores is the predicted order, so predictions are
    antisymmetric.

    Args:
        embed_dims: width P of the shared space.
        loss_weight: factor of the mean over cases.
    """

    def __init__(self, embed_dims: int, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.score = nn.Linear(embed_dims, 1, bias=False)

    def terms(self, pooled_BSP: Tensor, step_mask_BS: Tensor) -> Tensor:
        """Sum and number of cases (2) from the pooled patches of each step, steps in the order of the text."""
        return step_order(self.score(F.normalize(pooled_BSP, dim=-1))[..., 0], step_mask_BS)
