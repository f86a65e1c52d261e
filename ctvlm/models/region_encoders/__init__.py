"""Label map or features to the patch-to-region assignment and region tokens."""

from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding, pool_by_assignment
from ctvlm.models.region_encoders.hard_overlap import HardOverlapRegionEncoder
from ctvlm.models.region_encoders.learned import LearnedRegionEncoder
from ctvlm.models.region_encoders.mask_cnn import MaskCNNRegionEncoder
from ctvlm.models.region_encoders.null import NullRegionEncoder
from ctvlm.models.region_encoders.overlap import overlap_of, patch_overlap
from ctvlm.models.region_encoders.soft_overlap import SoftOverlapRegionEncoder

__all__ = [
    "HardOverlapRegionEncoder",
    "LearnedRegionEncoder",
    "MaskCNNRegionEncoder",
    "NullRegionEncoder",
    "RegionEncoder",
    "RegionEncoding",
    "SoftOverlapRegionEncoder",
    "overlap_of",
    "patch_overlap",
    "pool_by_assignment",
]
