"""The mathematics of the objectives, free of modules, devices and ranks."""

from ctvlm.models.losses.functional.attention_focus import attention_focus
from ctvlm.models.losses.functional.classification import classification_terms
from ctvlm.models.losses.functional.info_nce import info_nce
from ctvlm.models.losses.functional.masked_reconstruction import (
    masked_reconstruction,
    normalized_patches,
    patch_voxels,
)
from ctvlm.models.losses.functional.opposite_text import opposite_text
from ctvlm.models.losses.functional.positives import same_text
from ctvlm.models.losses.functional.segmentation import segmentation_terms
from ctvlm.models.losses.functional.sigmoid import sigmoid_pairs
from ctvlm.models.losses.functional.step_order import step_order

__all__ = [
    "attention_focus",
    "classification_terms",
    "info_nce",
    "masked_reconstruction",
    "normalized_patches",
    "patch_voxels",
    "opposite_text",
    "same_text",
    "segmentation_terms",
    "sigmoid_pairs",
    "step_order",
]
