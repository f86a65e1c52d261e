from .default_scheme import DEFAULT_SCHEME as DEFAULT_SCHEME
from .lexicon import Mention as Mention
from .lexicon import MentionLexicon as MentionLexicon
from .lexicon import mention_lexicon as mention_lexicon
from .plausibility import implausible_regions as implausible_regions
from .scheme import (
    Region as Region,
)
from .scheme import (
    RegionScheme as RegionScheme,
)
from .scheme import (
    UnknownLabelError as UnknownLabelError,
)
from .scheme import (
    region_names_of as region_names_of,
)
from .scheme import (
    scheme_of as scheme_of,
)
