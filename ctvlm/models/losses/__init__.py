"""Objectives."""

from ctvlm.models.losses.attention_focus import AttentionFocusLoss
from ctvlm.models.losses.cross_modal_contrastive import CrossModalContrastiveLoss
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.models.losses.region_alignment import RegionAlignmentLoss
from ctvlm.models.losses.step_alignment import StepAlignmentLoss

__all__ = ["AttentionFocusLoss", "CrossModalContrastiveLoss", "LogitScale", "RegionAlignmentLoss", "StepAlignmentLoss"]
