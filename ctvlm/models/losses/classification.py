"""Predicted findings compared with the labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.losses.base import MeanLoss
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class ClassificationLoss(MeanLoss):
    """Binary cross-entropy over the labels that are known."""

    def terms(self, logits_BC: Tensor, labels_BC: Tensor) -> Tensor:
        """Sum and count (2) over known labels. ``labels`` are 1, 0, or NaN for an unknown label."""
        known_BC = ~labels_BC.isnan()
        loss_BC = F.binary_cross_entropy_with_logits(logits_BC, labels_BC.nan_to_num(), reduction="none")
        return torch.stack([(loss_BC * known_BC).sum(), known_BC.sum().to(loss_BC.dtype)])
