"""Anatomical regions: scheme, mapping of other label maps, mentions in text, plausibility of region maps."""

from ctvlm.anatomy.lexicon import Mention, MentionLexicon, mention_lexicon
from ctvlm.anatomy.plausibility import implausible_regions
from ctvlm.anatomy.scheme import DEFAULT_SCHEME, Region, RegionScheme, UnknownLabelError, region_names_of, scheme_of

__all__ = [
    "DEFAULT_SCHEME",
    "Mention",
    "MentionLexicon",
    "Region",
    "RegionScheme",
    "UnknownLabelError",
    "implausible_regions",
    "mention_lexicon",
    "region_names_of",
    "scheme_of",
]
