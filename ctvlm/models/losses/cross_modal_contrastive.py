"""Volume against impression."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.losses.contrastive import ContrastiveLoss, NormalPairs
from ctvlm.models.losses.functional import info_nce
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class CrossModalContrastiveLoss(ContrastiveLoss):
    """InfoNCE between visual features and texts over the batch of all ranks; arguments as ``ContrastiveLoss``.

    Without equal texts it is the loss of CLIP (Radford et al., 2021); equal texts share the positive mass.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.logit_scale = LogitScale()

    def row_sum(self, rows: NormalPairs, columns: NormalPairs, positive: Tensor, allowed: Tensor | None) -> Tensor:
        return info_nce(rows.visual, rows.text, columns.visual, columns.text, self.logit_scale(), positive, allowed)
