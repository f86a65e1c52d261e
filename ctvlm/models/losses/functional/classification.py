"""Logits of findings against labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def classification_terms(logits_BC: Tensor, labels_BC: Tensor) -> Tensor:
    """Binary cross-entropy as [sum over known labels, number of known labels] (2); an unknown label is NaN."""
    known_BC = ~labels_BC.isnan()
    loss_BC = F.binary_cross_entropy_with_logits(logits_BC, labels_BC.nan_to_num(), reduction="none")
    return torch.stack([(loss_BC * known_BC).sum(), known_BC.sum().to(loss_BC.dtype)])
