"""Attention of a step against the place that it speaks of."""

from __future__ import annotations

from torch import Tensor, nn

from ctvlm.models.losses.functional import attention_focus
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class AttentionFocusLoss(nn.Module):
    """Cross-entropy between each step's attention over patches and the occupancy of its lesion or regions.

    Args:
        loss_weight: factor of the mean over all steps, chunks and ranks that have a place.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def terms(self, attention_BSN: Tensor, target_BSN: Tensor) -> Tensor:
        """Sum and count (2) over steps; ``target`` rows sum to 1, or to 0 for a step without a place."""
        return attention_focus(attention_BSN, target_BSN)
