"""Predicted regions compared with the region map."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.losses.base import MeanLoss
from ctvlm.models.losses.functional import segmentation_terms
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class SegmentationLoss(MeanLoss):
    """Soft cross-entropy plus soft Dice loss of patches or voxels (see ``segmentation_terms``)."""

    def terms(self, logits_BNR1: Tensor, target: Tensor, mask_BN: Tensor) -> Tensor:
        """Sum and number of cases (2).

        ``target`` contains shares (B, N, R + 1) or ids (B, N). ``mask`` is True where the region is known.
        """
        return segmentation_terms(logits_BNR1, target, mask_BN)
