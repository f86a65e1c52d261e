"""Find mentions of regions in radiology text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ctvlm.anatomy.scheme import DEFAULT_SCHEME, RegionScheme

SIDE = r"(?P<side>right and left|left and right|bilateral|both|right|left)"
LEVEL = r"(?:upper|middle|lower)"
# "upper lobe", "upper and lower lobes", "middle lobe and lower lobe", "upper-middle lobe"
LOBES = (
    rf"(?P<levels>{LEVEL}(?:(?:\s+lobes?)?\s*(?:,\s*and|,|and|or|/|-|&)\s*(?:the\s+|in\s+the\s+)?{LEVEL})*\s+lobes?)"
)
ABBREVIATION = r"\b(?P<short>[RL][UL]L|RML)\b"

# (pattern, regions). The first matching pattern claims a span. Empty regions: words that only look like a mention.
Terms = tuple[tuple[str, tuple[str, ...]], ...]
# Searched before the lungs and kidneys, because they contain words such as "lung" and "renal".
FIRST: Terms = (
    (r"lung (?:parenchyma )?window\w*|(?:hepatic|splenic) flexure|thyroid cartilages?|(?:infra|supra)renal", ()),
    (r"pulmonary (?:arter\w+|veins?|trunk|conus|embol\w+)", ("mediastinum",)),
    (r"(?:aortic|mitral|tricuspid|pulmonary) valve\w*", ("heart",)),
)
TERMS: Terms = (
    (r"aorto-?pulmonary|para-?aortic", ("mediastinum",)),
    (r"gastro-?o?esophageal", ("stomach", "esophagus")),
    (r"hepatosplenomegaly|hepatosplenic", ("liver", "spleen")),
    (
        r"trachea\w*|windpipe|endotracheal|tracheo\w+|carina|(?<!lobar )(?<!segmental )(?<!lobe )bronch(?:us|i|ie)",
        ("trachea",),
    ),
    (r"hearts?|cardiac|cardio(?:megaly|thoracic|myopathy|vascular)|atri(?:um|a|al)", ("heart",)),
    (r"ventric(?:le|les|ular)|(?:peri|myo|epi|endo)cardi\w+|coronary|coronaries", ("heart",)),
    (r"aorta[se]?|aortae|aortic", ("aorta",)),
    (r"mediastin\w+|(?:para|pre|retro)-?tracheal|(?:sub|infra)-?carinal|prevascular|thym(?:us|ic)", ("mediastinum",)),
    (r"superior vena cava|svc|brachiocephalic|subclavian|carotids?", ("mediastinum",)),
    (r"o?esophag(?:us|i|eal|itis)|hiatal herni\w+|hiatus herni\w+", ("esophagus",)),
    (r"thyroid\w*|thyroidal", ("thyroid",)),
    (r"liver|(?:intra|peri|extra|sub)?-?hepatic|hepato\w+|caudate lobe|hepatitis", ("liver",)),
    (r"gall ?-?bladder|chole(?:cyst|lith)\w+", ("gallbladder",)),
    (r"spleens?|(?:peri)?splenic|splenomegaly|splenules?", ("spleen",)),
    (r"stomach|(?:peri)?gastric|gastritis|gastrectomy", ("stomach",)),
    (r"pancrea(?:s|tic|titis)|peripancreatic", ("pancreas",)),
    (r"spine|spinal|(?:inter|para)?vertebra\w*|spondyl\w+|scoliosis|kyphosis|kyphoscoliosis", ("spine",)),
    (r"(?-i:(?:T(?:1[0-2]|[1-9])|L[1-5]|C[1-7])(?:-[TLC]?\d{1,2})?)", ("spine",)),
    (r"ribs?|rib cage|thoracic cage|costal|costochondral|stern(?:um|al)|manubrium", ("rib_cage",)),
    (r"clavic(?:le|les|ular)|clavicula|scapul(?:a|ae|ar)", ("rib_cage",)),
    (r"bones?|bony|osseous|skeletal", ("spine", "rib_cage")),
)
LUNG: dict[str, tuple[str, ...]] = {
    "right": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
    "left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
}
KIDNEY: dict[str, tuple[str, ...]] = {"right": ("kidney_right",), "left": ("kidney_left",)}


@dataclass(frozen=True)
class Mention:
    """Regions that ``text[start:end]`` mentions, as ids in ascending order."""

    start: int
    end: int
    regions: tuple[int, ...]


class MentionLexicon:
    """Find mentions of a scheme's regions, including plurals, adjectives ("hepatic"), sides and lobes.

    "Left lower lobe" is one lobe, "left lung" two, "both lungs" or "lungs" all five. A lobe or kidney without a side
    has the last side named in its sentence, or both sides. Regions of a custom scheme that are not in the default
    scheme are found by their synonyms.

    Measured (tests/test_anatomy/test_lexicon.py): precision 0.998 and recall 1.000 on RadGenome's 175 anatomy names,
    weighted by frequency (the word lists were completed with these names); 99% of RadGenome's findings that name a
    region name the correct one; 98% of sentences about the thyroid are found.
    """

    def __init__(self, scheme: RegionScheme | None = None) -> None:
        self.scheme = scheme or RegionScheme.load()
        known = set(self.scheme.names)
        self._ids = {name: self.scheme.id_of(name) for name in known}
        terms = [(p, names) for p, names in TERMS if set(names) & known]
        shipped = {n for _, names in terms for n in names} | {n for d in (LUNG, KIDNEY) for s in d.values() for n in s}
        custom = [
            ("|".join(re.escape(word) + "s?" for word in words), (region.name,))
            for region in self.scheme.regions
            if region.name not in shipped
            for words in [sorted({region.name.replace("_", " "), *region.synonyms}, key=len, reverse=True)]
        ]
        # The longest synonym first: "left lung" is not a mention of a custom region "lung".
        custom.sort(key=lambda term: -len(term[0].split("|")[0]))
        # Order: words that only look like a mention, custom regions, default regions.
        first = [term for term in FIRST if not term[1]] + custom + [term for term in FIRST if term[1]]
        self._first, self._terms = (
            [(re.compile(rf"\b(?:{p})\b", re.IGNORECASE), names) for p, names in table] for table in (first, terms)
        )

    def find(self, text: str) -> list[Mention]:
        """All mentions in text order."""
        mentions: list[Mention] = []
        claimed = bytearray(len(text))
        for pattern, names in self._first:
            self._claim(((m, names) for m in pattern.finditer(text)), claimed, mentions)
        self._claim(((m, self._lobes(m, text)) for m in _LOBES.finditer(text)), claimed, mentions)
        self._claim(((m, _sided(m, text, LUNG, inherit=False)) for m in _LUNG.finditer(text)), claimed, mentions)
        self._claim(((m, _sided(m, text, KIDNEY)) for m in _KIDNEY.finditer(text)), claimed, mentions)
        for pattern, names in self._terms:
            self._claim(((m, names) for m in pattern.finditer(text)), claimed, mentions)
        return sorted((m for m in mentions if m.regions), key=lambda m: m.start)

    def regions_in(self, text: str) -> tuple[int, ...]:
        """Ids of all regions that the text mentions, ascending."""
        return tuple(sorted({i for mention in self.find(text) for i in mention.regions}))

    def _claim(
        self, matches: Iterable[tuple[re.Match, tuple[str, ...]]], claimed: bytearray, mentions: list[Mention]
    ) -> None:
        """Append a mention for each (match, region names) that does not overlap a claimed span."""
        for match, names in matches:
            if any(claimed[match.start() : match.end()]):
                continue
            claimed[match.start() : match.end()] = b"\x01" * (match.end() - match.start())
            ids = sorted({self._ids[n] for n in names if n in self._ids})
            mentions.append(Mention(match.start(), match.end(), tuple(ids)))

    @staticmethod
    def _lobes(match: re.Match, text: str) -> tuple[str, ...]:
        if match["lingula"]:
            return ("lung_upper_lobe_left",)
        if match["short"]:
            side, level = match["short"].upper()[0], match["short"].upper()[1]
            levels, sides = [{"U": "upper", "M": "middle", "L": "lower"}[level]], [{"R": "right", "L": "left"}[side]]
        else:
            levels = re.findall(LEVEL, match["levels"] or match["levels2"] or match["levels3"], re.IGNORECASE)
            side = match["side"] or match["side2"] or _last_side(text, match.start())
            sides = _sides(side)
        names = {f"lung_{level.lower()}_lobe_{side}" for level in levels for side in sides}
        # The only middle lobe is on the right, also if the inherited side is left.
        return tuple("lung_middle_lobe_right" if "middle" in n else n for n in names)


def _numbered(pattern: str, number: int) -> str:
    """The pattern with numbered group names, because Python allows each name once."""
    return pattern.replace("<side>", f"<side{number}>").replace("<levels>", f"<levels{number}>")


_LOBES = re.compile(
    rf"{ABBREVIATION}|\b(?P<lingula>lingula\w*)\b"
    rf"|\b{SIDE}\s+(?:lungs?\s+)?{LOBES}\b(?!\s+of\s+(?:the\s+)?(?:right|left|both)\b)"
    rf"|\b(?:lungs?\s+)?{_numbered(LOBES, 2)}\s+(?:of|in|on)\s+(?:the\s+)?{_numbered(SIDE, 2)}\b"
    r"(?:\s+(?:lungs?|sides?))?"
    rf"|\b(?:lungs?\s+)?{_numbered(LOBES, 3)}\b",
    re.IGNORECASE,
)
_LUNG = re.compile(rf"\b(?:{SIDE}\s+)?(?:lungs?|(?:intra|cardio)?pulmonary)\b", re.IGNORECASE)
_KIDNEY = re.compile(
    rf"\b(?:{SIDE}\s+)?(?:kidneys?|(?:peri|pararenal|para)?renal|nephro\w+|hydronephrosis)\b", re.IGNORECASE
)


def _sides(side: str | None) -> list[str]:
    side = (side or "both").lower()
    return [side] if side in ("right", "left") else ["right", "left"]


def _last_side(text: str, before: int) -> str | None:
    """Last side named before a position in the same sentence."""
    start = max(text.rfind(mark, 0, before) for mark in (". ", "; ", "\n")) + 1
    sides = re.findall(rf"\b{SIDE}\b", text[start:before], re.IGNORECASE)
    return sides[-1] if sides else None


def _sided(match: re.Match, text: str, names: dict[str, tuple[str, ...]], inherit: bool = True) -> tuple[str, ...]:
    plural = match.group().lower().endswith("s")
    side = match["side"] or (_last_side(text, match.start()) if inherit and not plural else None)
    return tuple(name for s in _sides(side) for name in names[s])


@lru_cache(maxsize=4)
def mention_lexicon(scheme: str = DEFAULT_SCHEME) -> MentionLexicon:
    """Lexicon of a scheme, cached."""
    return MentionLexicon(RegionScheme.load(scheme))
