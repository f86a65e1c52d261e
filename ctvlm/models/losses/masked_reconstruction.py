"""Predicted voxels of masked patches."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.losses.base import MeanLoss
from ctvlm.models.losses.functional import masked_reconstruction, normalized_patches
from ctvlm.registry import LOSSES
from ctvlm.structures import widened


@LOSSES.register_module()
class MaskedReconstructionLoss(MeanLoss):
    """Mean squared error of the voxels of masked patches, normalised within each patch; nearly 1 for a constant."""

    def terms(self, predicted_MV: Tensor, hu_MV: Tensor) -> Tensor:
        """Sum and number of patches (2) from predictions and voxels in HU."""
        predicted_MV = widened(predicted_MV)
        return masked_reconstruction(predicted_MV, normalized_patches(hu_MV).to(predicted_MV))
