"""The learned temperature of a contrastive loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class LogitScale(nn.Module):
    """exp of a learned scalar, as in CLIP: starts at 1 / 0.07 and stays between 1 and ``maximum``.

    The parameter is clamped after each optimizer step, as open_clip does, and after loading. Clamping the result in
    ``forward`` would make the gradient exactly 0 above the maximum, and the scale could never come back.

    Args:
        init: scale at the start.
        maximum: upper limit of the scale.
    """

    def __init__(self, init: float = 1 / 0.07, maximum: float = 100.0):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(init)))
        self.maximum = maximum
        self.register_load_state_dict_post_hook(_clamp_loaded)

    def forward(self) -> Tensor:
        return self.log_scale.exp()

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Clamp the parameter; the Runner calls it after each step (see ``call_after_step``)."""
        self.log_scale.clamp_(0.0, math.log(self.maximum))


def _clamp_loaded(module: LogitScale, _: Any) -> None:
    module.after_optimizer_step()
