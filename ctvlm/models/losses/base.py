"""Base classes of losses: of pairs, and of terms that are averaged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from ctvlm.structures import MeanTerms
from ctvlm.utils.distributed import all_gather_with_grad


class Loss(nn.Module, ABC):
    """``forward(features) -> Tensor``: weighted loss (scalar) over the cases of all ranks.

    Attributes:
        compares_cases: True if the loss of a case depends on the other cases of the batch.

    Args:
        loss_weight: factor of the loss in the sum.
    """

    compares_cases = False

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    @abstractmethod
    def forward(self, features: Any) -> Tensor:
        """Weighted loss (scalar) of Pairs or MeanTerms, equal on every rank."""


class MeanLoss(Loss):
    """Weighted mean of terms. Subclasses add ``terms(...)``, which gives the sum and the count (2)."""

    def forward(self, features: MeanTerms) -> Tensor:
        return self.loss_weight * global_mean(features)


def global_mean(terms: MeanTerms) -> Tensor:
    """Mean over all ranks (scalar), exact for uneven counts; 0 without terms."""
    total, count = all_gather_with_grad(terms.sum_and_count_2[None]).sum(dim=0)
    return total / count.clamp(min=1)
