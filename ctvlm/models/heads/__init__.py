"""Features to embeddings and logits."""

from ctvlm.models.heads.projection import GlobalProjection, Projection, RegionProjection, StepProjection, TextProjection
from ctvlm.models.heads.segmentation_head import SegmentationHead

__all__ = ["GlobalProjection", "Projection", "RegionProjection", "SegmentationHead", "StepProjection", "TextProjection"]
