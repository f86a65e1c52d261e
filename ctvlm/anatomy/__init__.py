"""Anatomical regions: the scheme, folds of other label maps, mentions in text, plausibility of masks."""

from ctvlm.anatomy.lexicon import Mention, MentionLexicon, mention_lexicon
from ctvlm.anatomy.plausibility import implausible_regions
from ctvlm.anatomy.scheme import Region, RegionScheme, UnknownLabelError

__all__ = [
    "Mention",
    "MentionLexicon",
    "Region",
    "RegionScheme",
    "UnknownLabelError",
    "implausible_regions",
    "mention_lexicon",
]
