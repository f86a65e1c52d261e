"""Skip optimizer steps whose loss or gradient is not finite."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import Tensor

from ctvlm.utils.distributed import any_rank

# Of a loss scaler, as in fairseq; usual scales are above 1.
MIN_SCALE = 1e-4


class StepGuard:
    """Replaces ``step`` of an optimizer wrapper: a step with a non-finite loss or gradient does nothing.

    With accumulated gradients, one such batch skips the step of all its batches. All ranks skip the same steps. Each
    step reads one value from the device. Gradients that a loss scaler has scaled are left to the scaler, which skips
    steps while it searches its scale; their loss and the scale are checked.

    Attributes:
        skipped: whether the last step was skipped; None while gradients are accumulated.
        finite: for each batch of the last step, whether its loss was finite on this rank.
    """

    def __init__(self, wrapper: OptimWrapper) -> None:
        self.skipped: bool | None = None
        self.finite: list[Tensor] = []
        self._wrapper = wrapper
        self._step, self._backward = wrapper.step, wrapper.backward
        wrapper.step, wrapper.backward = self.step, self.backward  # type: ignore[method-assign]

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Note whether the loss is finite, and compute the gradient."""
        if self.skipped is not None:
            self.skipped, self.finite = None, []
        self.finite.append(loss.detach().isfinite().all())
        self._backward(loss, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Update the parameters, if all losses and gradients of all ranks are finite."""
        self.skipped = any_rank(~self._is_finite())
        if not self.skipped:
            self._step(**kwargs)

    def is_scale_exhausted(self) -> bool:
        """Whether a loss scaler has lowered its scale so far that no scale would make the gradients finite."""
        scaler = getattr(self._wrapper, "loss_scaler", None)
        return scaler is not None and scaler.get_scale() < MIN_SCALE

    def _is_finite(self) -> Tensor:
        finite = torch.stack(self.finite).all() if self.finite else torch.tensor(True, device=get_device())
        if hasattr(self._wrapper, "loss_scaler"):
            return finite
        groups = self._wrapper.optimizer.param_groups
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        # The largest magnitude, unlike the sum of squares, does not overflow.
        largest = torch.nn.utils.get_total_norm(gradients, norm_type=float("inf"))
        return finite & largest.isfinite().to(finite.device)
