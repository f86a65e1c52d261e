"""Means over what all ranks hold."""

from __future__ import annotations

from torch import Tensor

from ctvlm.utils.distributed import all_gather_with_grad


def global_mean(sum_and_count_2: Tensor) -> Tensor:
    """Mean over all ranks of terms that each rank gives as (sum, count), exact for uneven counts; 0 for none."""
    total, count = all_gather_with_grad(sum_and_count_2[None]).sum(dim=0)
    return total / count.clamp(min=1)
