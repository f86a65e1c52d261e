"""Region features against the steps that mention the region."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ctvlm.models.losses.functional import region_info_nce
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.registry import LOSSES
from ctvlm.utils.distributed import all_gather_with_grad


@LOSSES.register_module()
class RegionAlignmentLoss(nn.Module):
    """InfoNCE over all (case, region) pairs with a mention, of all ranks.

    Args:
        cross_region: whether other regions' texts are negatives too, or only the same region's in other cases.
        loss_weight: factor of the term in the sum.
    """

    def __init__(self, cross_region: bool = True, loss_weight: float = 1.0):
        super().__init__()
        self.cross_region = cross_region
        self.loss_weight = loss_weight
        self.logit_scale = LogitScale()

    def forward(self, region_MP: Tensor, text_MP: Tensor, text_ids_M: Tensor, region_ids_M: Tensor) -> Tensor:
        region_MP = all_gather_with_grad(F.normalize(region_MP, dim=-1))
        text_MP = all_gather_with_grad(F.normalize(text_MP, dim=-1))
        text_ids_M = all_gather_with_grad(text_ids_M)
        region_ids_M = all_gather_with_grad(region_ids_M)
        if len(region_MP) == 0:
            # No mention anywhere: zero that still reaches every parameter, so no rank waits for a gradient.
            return 0.0 * (region_MP.sum() + text_MP.sum() + self.logit_scale())
        loss = region_info_nce(region_MP, text_MP, self.logit_scale(), text_ids_M, region_ids_M, self.cross_region)
        return self.loss_weight * loss
