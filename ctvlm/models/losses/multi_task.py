"""One sum of many objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctvlm.registry import LOSSES


@LOSSES.register_module()
class MultiTaskLoss(nn.Module):
    """Weigh the losses of a model, by fixed factors or by uncertainties that are learned.

    Learned, a loss L counts as ``exp(-s) * L + s / 2`` with one parameter s, the log variance of its task (Kendall et
    al., 2018, the form for likelihoods of classes, which cross-entropies are). It can be negative.

    Args:
        names: the losses, as they are called in ``forward``.
        weights: name to fixed factor, or to the factor ``exp(-s)`` that learning starts from; others have 1.
        learned: whether uncertainties are learned.

    Raises:
        ValueError: a weight that names no loss, or is not positive where it is learned.
    """

    def __init__(self, names: Sequence[str], weights: dict[str, float] | None = None, learned: bool = False):
        super().__init__()
        unknown = set(weights or {}) - set(names)
        if unknown:
            raise ValueError(f"weights of {sorted(unknown)}, which the model does not have; it has {sorted(names)}")
        self.weights = dict.fromkeys(names, 1.0) | (weights or {})
        self.log_variance: nn.ParameterDict | None = None
        if learned:
            wrong = {name: weight for name, weight in self.weights.items() if weight <= 0}
            if wrong:
                raise ValueError(f"weights {wrong}; learning starts from positive ones: leave the loss out instead")
            self.log_variance = nn.ParameterDict(
                {name: nn.Parameter(torch.tensor(-math.log(weight))) for name, weight in self.weights.items()}
            )

    def forward(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same losses, weighted.

        Raises:
            ValueError: other losses than those named at the start, as a parameter without its loss has no gradient.
        """
        if set(losses) != set(self.weights):
            raise ValueError(f"losses {sorted(losses)}; expected {sorted(self.weights)}, named when this was built")
        if self.log_variance is None:
            return {name: self.weights[name] * loss for name, loss in losses.items()}
        return {name: (-s).exp() * losses[name] + s / 2 for name, s in self.log_variance.items()}
