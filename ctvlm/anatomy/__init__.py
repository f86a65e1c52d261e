"""Anatomical regions: the scheme, folds of other label maps, mentions in text, plausibility of masks."""

from ctvlm.anatomy.plausibility import implausible_regions
from ctvlm.anatomy.scheme import Region, RegionScheme, UnknownLabelError

__all__ = ["Region", "RegionScheme", "UnknownLabelError", "implausible_regions"]
