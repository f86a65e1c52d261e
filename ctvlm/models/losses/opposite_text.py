"""A sentence against its opposites, given the volume."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.losses.base import MeanLoss
from ctvlm.models.losses.functional import opposite_text
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.registry import LOSSES
from ctvlm.structures import widened


@LOSSES.register_module()
class OppositeTextLoss(MeanLoss):
    """Cross-entropy between a sentence and its opposites with a learned logit scale; log 2 by chance for one opposite.

    Hard negatives by rule, as NegCLIP (Yuksekgonul et al., 2023) uses them, but only against the sentence's own
    visual feature.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.logit_scale = LogitScale()

    def terms(self, visual_MP: Tensor, text_MP: Tensor, opposite_MOP: Tensor, mask_MO: Tensor) -> Tensor:
        """Sum and number of sentences (2), in float32 or wider. ``mask`` is False for padding of the opposites."""
        visual_MP, text_MP, opposite_MOP = (F.normalize(widened(x), dim=-1) for x in (visual_MP, text_MP, opposite_MOP))
        return opposite_text(visual_MP, text_MP, opposite_MOP, mask_MO, self.logit_scale())
