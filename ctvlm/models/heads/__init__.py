"""Features to embeddings and logits."""

from ctvlm.models.heads.classification_head import ClassificationHead
from ctvlm.models.heads.generation import CoTGenerationHead, PrefixGenerationHead
from ctvlm.models.heads.masked_patch_decoder import MaskedPatchDecoder
from ctvlm.models.heads.point_segmentation_head import PointSegmentationHead
from ctvlm.models.heads.projection import (
    PatchProjection,
    Projection,
    RegionProjection,
    TextProjection,
    VolumeProjection,
)
from ctvlm.models.heads.region_logits_head import RegionLogitsHead
from ctvlm.models.heads.segmentation_head import SegmentationHead
from ctvlm.models.heads.voxel_segmentation_head import VoxelSegmentationHead

__all__ = [
    "ClassificationHead",
    "CoTGenerationHead",
    "MaskedPatchDecoder",
    "VolumeProjection",
    "PointSegmentationHead",
    "PrefixGenerationHead",
    "Projection",
    "RegionLogitsHead",
    "RegionProjection",
    "SegmentationHead",
    "PatchProjection",
    "TextProjection",
    "VoxelSegmentationHead",
]
