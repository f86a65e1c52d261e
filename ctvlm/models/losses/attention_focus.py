"""Attention of a reasoning step compared with its target."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.losses.base import MeanLoss
from ctvlm.models.losses.functional import attention_focus
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class AttentionFocusLoss(MeanLoss):
    """Cross-entropy between each step's attention over patches and the occupancy of its lesion or regions.

    The mean is over all steps that have a target.
    """

    def terms(self, attention_BSN: Tensor, target_BSN: Tensor) -> Tensor:
        """Sum and count (2) over steps. Rows of ``target`` sum to 1, or to 0 for a step without a target."""
        return attention_focus(attention_BSN, target_BSN)
