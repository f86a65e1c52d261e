"""Losses: pairs or terms of a mean to a scalar."""

from ctvlm.models.losses.attention_focus import AttentionFocusLoss
from ctvlm.models.losses.base import Loss, MeanLoss
from ctvlm.models.losses.classification import ClassificationLoss
from ctvlm.models.losses.contrastive import ContrastiveLoss
from ctvlm.models.losses.cross_modal_contrastive import CrossModalContrastiveLoss
from ctvlm.models.losses.fixed_temperature import FixedTemperatureContrastiveLoss
from ctvlm.models.losses.generation import GenerationLoss
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.models.losses.masked_reconstruction import MaskedReconstructionLoss
from ctvlm.models.losses.multi_task import MultiTaskLoss
from ctvlm.models.losses.opposite_text import OppositeTextLoss
from ctvlm.models.losses.prompt_classification import PromptClassificationLoss
from ctvlm.models.losses.region_alignment import RegionAlignmentLoss
from ctvlm.models.losses.segmentation import SegmentationLoss
from ctvlm.models.losses.sigmoid_contrastive import SigmoidContrastiveLoss
from ctvlm.models.losses.step_alignment import StepAlignmentLoss
from ctvlm.models.losses.step_order import StepOrderLoss

__all__ = [
    "AttentionFocusLoss",
    "ClassificationLoss",
    "ContrastiveLoss",
    "CrossModalContrastiveLoss",
    "FixedTemperatureContrastiveLoss",
    "GenerationLoss",
    "LogitScale",
    "Loss",
    "MaskedReconstructionLoss",
    "MeanLoss",
    "MultiTaskLoss",
    "OppositeTextLoss",
    "PromptClassificationLoss",
    "RegionAlignmentLoss",
    "SegmentationLoss",
    "SigmoidContrastiveLoss",
    "StepAlignmentLoss",
    "StepOrderLoss",
]
