"""Predicted findings compared with the labels."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.losses.base import MeanLoss
from ctvlm.models.losses.functional import classification_terms
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class ClassificationLoss(MeanLoss):
    """Binary cross-entropy over the labels that are known."""

    def terms(self, logits_BC: Tensor, labels_BC: Tensor) -> Tensor:
        """Sum and count (2) over known labels. ``labels`` are 1, 0, or NaN for an unknown label."""
        return classification_terms(logits_BC, labels_BC)
