"""Patches, pooled by each reasoning step, against that step."""

from __future__ import annotations

from ctvlm.models.losses.cross_modal_contrastive import CrossModalContrastiveLoss
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class StepAlignmentLoss(CrossModalContrastiveLoss):
    """InfoNCE between each step's text and the patches of its case, pooled where the step looks.

    Negatives are the other steps of the case and of the batch. The idea is GLoRIA's (Huang et al., 2021), with
    reasoning steps in place of words. Arguments as ``ContrastiveLoss``.
    """
