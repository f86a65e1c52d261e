"""InfoNCE with a temperature that is not learned."""

from __future__ import annotations

import torch
from torch import Tensor

from ctvlm.models.losses.contrastive import ContrastiveLoss, NormalPairs
from ctvlm.models.losses.functional import info_nce
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class FixedTemperatureContrastiveLoss(ContrastiveLoss):
    """CrossModalContrastiveLoss, for any level, with logits of ``cosine / temperature`` and no parameter.

    Args:
        temperature: positive number.
        kwargs: as ``ContrastiveLoss``.

    Raises:
        ValueError: the temperature is not positive.
    """

    def __init__(self, temperature: float = 0.07, **kwargs):
        super().__init__(**kwargs)
        if temperature <= 0:
            raise ValueError(f"{type(self).__name__}: temperature = {temperature}; expected a positive number")
        self.temperature = temperature

    def logit_scale(self) -> Tensor:
        """The factor of cosines, which zero-shot scores share."""
        return torch.tensor(1 / self.temperature)

    def row_sum(self, rows: NormalPairs, columns: NormalPairs, positive: Tensor, allowed: Tensor | None) -> Tensor:
        return info_nce(rows.visual, rows.text, columns.visual, columns.text, 1 / self.temperature, positive, allowed)
