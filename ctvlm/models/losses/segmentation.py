"""Predicted regions against the true map."""

from __future__ import annotations

from torch import Tensor, nn

from ctvlm.models.losses.functional import segmentation_terms
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class SegmentationLoss(nn.Module):
    """Soft cross-entropy plus soft Dice of patches or voxels (see ``segmentation_terms``)."""

    def forward(self, logits_BNR1: Tensor, target: Tensor, mask_BN: Tensor) -> Tensor:
        """[sum, number of cases] (2); ``target`` is shares (B, N, R + 1) or ids (B, N), ``mask`` the known places."""
        return segmentation_terms(logits_BNR1, target, mask_BN)
