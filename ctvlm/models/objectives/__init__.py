"""Objectives: each compares one pair of views of a batch, or adds an auxiliary task."""

from ctvlm.models.objectives.attention_focus import AttentionFocusObjective
from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext
from ctvlm.models.objectives.classification import ClassificationObjective
from ctvlm.models.objectives.generation import GenerationObjective
from ctvlm.models.objectives.masked_reconstruction import MaskedReconstructionObjective
from ctvlm.models.objectives.opposite_text import OppositeTextObjective
from ctvlm.models.objectives.point_segmentation import PointSegmentationObjective
from ctvlm.models.objectives.prompt_classification import PromptClassificationObjective
from ctvlm.models.objectives.region_text import RegionTextObjective
from ctvlm.models.objectives.segmentation import SegmentationObjective
from ctvlm.models.objectives.step_order import StepOrderObjective
from ctvlm.models.objectives.step_text import StepTextObjective
from ctvlm.models.objectives.text_bank import TextBank
from ctvlm.models.objectives.volume_text import VolumeTextObjective

__all__ = [
    "AttentionFocusObjective",
    "BatchContext",
    "ClassificationObjective",
    "GenerationObjective",
    "MaskedReconstructionObjective",
    "Objective",
    "OppositeTextObjective",
    "PointSegmentationObjective",
    "PromptClassificationObjective",
    "RegionTextObjective",
    "SegmentationObjective",
    "StepOrderObjective",
    "StepTextObjective",
    "TextBank",
    "VolumeTextObjective",
]
