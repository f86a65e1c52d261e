from .default_scheme import DEFAULT_SCHEME as DEFAULT_SCHEME
from .lexicon import Mention as Mention, MentionLexicon as MentionLexicon, mention_lexicon as mention_lexicon
from .plausibility import RegionCheck as RegionCheck, check_regions as check_regions
from .scheme import (
    Region as Region,
    RegionScheme as RegionScheme,
    UnknownLabelError as UnknownLabelError,
    region_names_of as region_names_of,
    scheme_of as scheme_of,
)
