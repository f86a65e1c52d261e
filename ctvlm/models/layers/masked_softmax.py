"""Softmax over unmasked entries."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    """Softmax over the entries where ``mask`` is True; all others get exactly 0.

    A slice along ``dim`` without a True entry is 0 with a gradient of 0 (filling with ``-inf`` would give NaN).

    Args:
        scores: floating point, any shape.
        mask: bool, broadcastable to ``scores``.
        dim: dimension that sums to 1.
    """
    hidden = ~mask
    return scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(dim=dim).masked_fill(hidden, 0.0)
