"""Necks: EncoderOutput to pooled or multi-scale features."""

from ctvlm.models.necks.feature_pyramid import FeaturePyramid3D
from ctvlm.models.necks.region_pooling import RegionPooling
from ctvlm.models.necks.volume_pooling import VolumePooling

__all__ = ["FeaturePyramid3D", "VolumePooling", "RegionPooling"]
