"""Attention of a step against the place that it speaks of."""

from __future__ import annotations

from torch import Tensor, nn

from ctvlm.models.losses.functional import attention_focus
from ctvlm.registry import LOSSES
from ctvlm.utils.distributed import all_gather_with_grad


@LOSSES.register_module()
class AttentionFocusLoss(nn.Module):
    """Cross-entropy between each step's attention over patches and the occupancy of its lesion or regions.

    Args:
        loss_weight: factor of the term in the sum.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, attention_BSN: Tensor, target_BSN: Tensor) -> Tensor:
        """``target`` (B, S, N): rows sum to 1, or to 0 for a step without a place."""
        total, count = all_gather_with_grad(attention_focus(attention_BSN, target_BSN)[None]).sum(dim=0)
        return self.loss_weight * total / count.clamp(min=1)
