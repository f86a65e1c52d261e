"""Terms of a mean, for a loss that averages over parts of cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ctvlm.structures.pairs import widened


@dataclass
class MeanTerms:
    """Sum and count of the terms of a mean. Both add up over parts of a batch and over ranks.

    Attributes:
        sum_and_count_2: sum of the terms, and their number (2); the number is 0 where nothing can be measured.
    """

    sum_and_count_2: Tensor

    @staticmethod
    def none(outputs: Tensor) -> MeanTerms:
        """No terms. The sum is 0 and depends on ``outputs``, so that every rank uses its parameters (DDP)."""
        zero = outputs.sum() * 0
        return MeanTerms(torch.stack([zero, zero.detach()]))

    @staticmethod
    def cat(parts: Sequence[MeanTerms]) -> MeanTerms:
        """The terms of all parts of a batch."""
        return MeanTerms(torch.stack([part.sum_and_count_2 for part in parts]).sum(dim=0))

    @property
    def device(self) -> torch.device:
        return self.sum_and_count_2.device

    def full_precision(self) -> MeanTerms:
        """The same terms in float32 or wider."""
        return MeanTerms(widened(self.sum_and_count_2))
