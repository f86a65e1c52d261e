"""The learned temperature of a contrastive loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LogitScale(nn.Module):
    """exp of a learned scalar, capped, as in CLIP: starts at 1 / 0.07, at most 100."""

    def __init__(self, init: float = 1 / 0.07, maximum: float = 100.0):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(init)))
        self.maximum = maximum

    def forward(self) -> Tensor:
        return self.log_scale.exp().clamp(max=self.maximum)
