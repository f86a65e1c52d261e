"""Attention against the place that it should have."""

from __future__ import annotations

import torch
from torch import Tensor


def attention_focus(attention_BSN: Tensor, target_BSN: Tensor) -> Tensor:
    """Cross-entropy between target occupancy and attention, as [sum, count] over the steps that have a target (2).

    ``target`` rows sum to 1, or to 0 for a step without a place. Sum and count add up over parts of a batch and over
    ranks with uneven numbers of steps.
    """
    has_target_BS = target_BSN.sum(dim=-1) > 0
    # The lowest normal number only keeps log finite at 0. A higher floor would stop the gradient of exactly those
    # steps that look furthest from their place.
    floor = torch.finfo(attention_BSN.dtype).tiny
    entropy_BS = -(target_BSN * attention_BSN.clamp(min=floor).log()).sum(dim=-1)
    # The entropy of a step without a target is 0, as all of its products are.
    return torch.stack([entropy_BS.sum(), has_target_BS.sum().to(entropy_BS.dtype)])
