"""EncoderOutput to pooled or multi-scale features."""

from ctvlm.models.necks.feature_pyramid import FeaturePyramid3D
from ctvlm.models.necks.global_pooling import GlobalPooling
from ctvlm.models.necks.region_pooling import RegionPooling

__all__ = ["FeaturePyramid3D", "GlobalPooling", "RegionPooling"]
