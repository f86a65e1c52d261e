"""Exchange left and right in text, for mirrored volumes. Pure functions.

After the swap the text names the partners of the regions that it named before (``RegionScheme.partner_ids``). The
right middle lobe has no partner; it corresponds to the lingula, a part of the left upper lobe. Therefore "right middle
lobe" becomes "lingula", and "lingula" becomes "right upper lobe". For all other text, two swaps restore the original.
Measured on the 493 sentences with a side in 240 real reports: 96% name exactly the partner regions after the swap. The
other sentences mostly contain "lingular segment of the left lung", where the new text names fewer regions.
"""

from __future__ import annotations

import re

from ctvlm.text.side_words import find_unswappable_word

_LEVEL = r"(?:upper|middle|lower)"
_AND = r"(?:\s*,\s*and\s+|\s*,\s*|\s+and\s+|\s+or\s+|\s*[/&-]\s*)"
_BOTH = r"(?:both|bilateral|right and left|left and right)"
_RIGHT, _LEFT = r"(?:right|rt\.?|(?-i:R\.?))", r"(?:left|lt\.?|(?-i:L\.?))"
_OF_RIGHT = rf"(?:\s+(?:of|in)\s+(?:the\s+)?{_RIGHT}\s+lung)"
# Lists such as "right upper and middle lobes", with an optional side before or after.
_LIST = re.compile(
    rf"\b(?:(?P<before>{_RIGHT}|{_BOTH})\s+)?(?:lungs?\s+)?"
    rf"(?P<levels>{_LEVEL}(?:(?:\s+lobes?)?{_AND}(?:the\s+)?{_LEVEL})+)\s+(?P<lobe>lobes?)(?P<after>{_OF_RIGHT})?\b",
    re.IGNORECASE,
)
_MIDDLE = re.compile(
    rf"\b(?:(?:{_RIGHT}|{_LEFT}|{_BOTH})\s+)?(?:lungs?\s+)?middle\s+lobes?"
    rf"(?:\s+(?:of|in)\s+(?:the\s+)?(?:{_RIGHT}|{_LEFT})\s+lung)?\b"
    r"|\bRML\b",
    re.IGNORECASE,
)
_LINGULA = re.compile(
    rf"\b(?:{_LEFT}\s+(?:lung\s+)?(?:upper\s+lobe\s*,?\s*)?|LUL\s+)?(?:(?:inferior|superior)\s+)?lingul(?:a|ae|ar)\b"
    rf"(?:\s+(?:segments?|division|lobe))?(?:\s+(?:of|in)\s+(?:the\s+)?{_LEFT}\s+(?:upper\s+lobe|lung))?",
    re.IGNORECASE,
)
_PAIRS = {
    "right": "left",
    "rightward": "leftward",
    "rightwards": "leftwards",
    "rightmost": "leftmost",
    "rightsided": "leftsided",
    "dextroscoliosis": "levoscoliosis",
    "dextroconvex": "levoconvex",
    "dextrocardia": "levocardia",
    "dextroposition": "levoposition",
    "dextrorotation": "levorotation",
}
_PAIRS.update({b: a for a, b in list(_PAIRS.items())})
# Lobes, zones and quadrants; arteries; ventricles; jugular veins; bundle branches. Only the first letter differs.
_SHORT = r"[RL](?:UL|LL|UZ|MZ|LZ|UQ|LQ|CA|CCA|PA|MB|V|VOT|VH|IJ|IMA|BBB)"
_BEFORE, _AFTER = r"(?<![^\W_])", r"(?![^\W_])"
_SIDES = re.compile(
    rf"{_BEFORE}(?:(?i:{'|'.join(_PAIRS)}|r[ul]l|l[ul]l)|{_SHORT}|[RrLl][Tt]|[RL]){_AFTER}",
)
# Nouns and adjectives after which a single "R", or "left" after a verb, is a side.
_ANATOMY = (
    r"(?:sid(?:e|ed)|upper|mid|middle|lower|lobes?|lobar|lungs?|kidneys?|renal|adrenal|pleura\w*|hil\w+|perihilar|breasts?|"
    r"hemi\w+|ventric\w+|atri\w+|axill\w+|chest|apical|apex|bas\w+|posterior|anterior|lateral|medial|main|bronch\w*|"
    r"paratrachea\w*|paravertebra\w*|pulmonary|coronary|subclavian|carotid|jugular|brachiocephalic|thyroid|ureter\w*|iliac|"
    r"femora?l?|femur|hip|shoulder|clavic\w*|scapul\w*|ribs?|\d+(?:st|nd|rd|th)|arm|leg|ovar\w+|inguinal|flank|psoas|"
    r"(?:hemi)?diaphragm\w*|effusions?|pneumothorax|costophrenic|heart|cardiac|mastectomy|nephrectomy|lobectomy|"
    r"pneumonectomy|thora\w+|nodules?|mass|opacit\w+|consolidations?|atelecta\w+|abdom\w+|parenchym\w+)\b"
)
_NOUN_AFTER = re.compile(rf"\.?[\s-]+{_ANATOMY}", re.IGNORECASE)
# "to the left", "on its right": a side, independent of the next word.
_PLACE_BEFORE = re.compile(r"\b(?:on|to|at|of|in|from|towards?|than)\s+(?:the|its|his|her)\s+$", re.IGNORECASE)
_VERB_BEFORE = re.compile(
    r"\b(?:has|have|had|having|was|were|is|are|be|been|being|he|she|they|nothing|anything|something|none|what)\s+$",
    re.IGNORECASE,
)
_HAS_BEFORE = re.compile(r"\b(?:has|have|had|having|he|she|they)\s+$", re.IGNORECASE)
_LEFT_IDIOM = re.compile(
    r"\s*-?\s*overs?\b(?!\s+(?:the|its|his|her)\b)"
    r"|\s+(?:untreated|untouched|alone|behind|out|off|open|unchanged|undisturbed|intact|as is|in place|in situ)\b"
    r"|\s+the\s+(?:hospital|clinic|ward|scanner|room|department|table|examination)\b",
    re.IGNORECASE,
)
_LEFT_UNSURE = re.compile(r"\s+(?:over|the|to\s+(?:be|heal|drain)|in|for|with)\b", re.IGNORECASE)
_RIGHT_IDIOM = re.compile(r"\s*-?\s*(?:angle[ds]?|away|now)\b", re.IGNORECASE)
_RIGHT_UNSURE = re.compile(
    r"\s+(?:after|before|behind|next\s+to|above|below|beneath|beside|at|through|up|down|here|there|under|over)\b",
    re.IGNORECASE,
)
# "R>L", "R = 10 cm", "R/L", "R and L", "(R)".
_JOINED_AFTER = re.compile(r"\s*(?:[<>:=≤≥]|(?:[/+&-]|and\b|or\b|vs\b\.?)\s*[RL](?![^\W_]))")
_JOINED_BEFORE = re.compile(r"(?:[<>:=≤≥]|(?<![^\W_])[RL]\s*(?:[/+&-]|\band|\bor|\bvs\.?))\s*$")


def swap_sides(text: str) -> str:
    """Text for the mirrored patient, with upper and lower case preserved.

    Words that ``find_ambiguous_side`` finds stay unchanged: do not mirror a case with such a text.
    """
    lobes = _lobes(text)
    edits = [(start, end, _cased(new, text[start:end])) for start, end, new in lobes]
    edits += [(m.start(), m.end(), _partner(m.group())) for m, kind in _sides(text, lobes) if kind == "side"]
    parts, end = [], 0
    for start, stop, new in sorted(edits):
        parts += [text[end:start], new]
        end = stop
    return "".join([*parts, text[end:]])


def find_ambiguous_side(text: str) -> str | None:
    """First word that may name a side and that ``swap_sides`` cannot swap reliably; None if there is no such word.

    Such words are ambiguous English words ("the drain was left in the", "RT"), side words of other languages, and
    words in scripts whose side words are unknown.
    """
    for match, kind in _sides(text, _lobes(text)):
        if kind == "unsure":
            return match.group()
    return find_unswappable_word(text)


def swap_label_sides(labels: dict[str, int | None]) -> dict[str, int | None]:
    """Labels of the mirrored patient: a label with a side gets the value of its partner, or None without a partner."""
    return {name: labels.get(swap_sides(name)) if swap_sides(name) != name else value for name, value in labels.items()}


def _lobes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, replacement) of middle lobes and lingulas, in text order and without overlap."""
    found: list[tuple[int, int, str]] = []
    for pattern, write in ((_LIST, _write_list), (_MIDDLE, lambda m: "lingula"), (_LINGULA, _write_lingula)):
        for match in pattern.finditer(text):
            new = write(match)
            if new is not None and all(match.end() <= start or match.start() >= end for start, end, _ in found):
                found.append((match.start(), match.end(), new))
    return sorted(found)


def _write_list(match: re.Match) -> str | None:
    levels = [level.lower() for level in re.findall(_LEVEL, match["levels"], re.IGNORECASE)]
    if "middle" not in levels:
        return None
    side = "right" if match["after"] else (match["before"] or "").lower().rstrip(".")
    side = "right" if side in ("r", "rt") else side
    one = {"right": "left ", "": ""}.get(side, "bilateral ")
    # One side has one lobe per level; without a side the text may refer to both, so the plural stays.
    noun = "lobe" if side == "right" else match["lobe"].lower()
    items = ["lingula" if level == "middle" else f"{one}{level} {noun}" for level in levels]
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _write_lingula(match: re.Match) -> str:
    return "right upper lobe"


def _sides(text: str, lobes: list[tuple[int, int, str]]) -> list[tuple[re.Match, str]]:
    """Side words outside the spans of ``lobes`` and their kind: ``side``, ``idiom`` or ``unsure``."""
    matches = _SIDES.finditer(text)
    free = (m for m in matches if all(m.end() <= start or m.start() >= end for start, end, _ in lobes))
    return [(match, _kind(match, text[: match.start()], text[match.end() :])) for match in free]


def _kind(match: re.Match, before: str, after: str) -> str:
    word = match.group()
    if word in ("R", "L"):
        return _kind_of_letter(word, before, after)
    if word in ("RT", "LT"):
        if re.match(r"[\s-]*PCR\b", after):
            return "idiom"
        return "side" if _NOUN_AFTER.match(after) or _PLACE_BEFORE.search(before) else "unsure"
    if word.lower() not in ("left", "right") or _PLACE_BEFORE.search(before):
        return "side"
    if word.lower() == "right":
        if _RIGHT_IDIOM.match(after) or re.search(r"\ball\s+$", before, re.IGNORECASE):
            return "idiom"
        return "unsure" if _RIGHT_UNSURE.match(after) else "side"
    if _LEFT_IDIOM.match(after):
        return "idiom"
    if _VERB_BEFORE.search(before):
        if _NOUN_AFTER.match(after):
            return "side"
        return "idiom" if _HAS_BEFORE.search(before) and re.match(r"\s*(?:[.,;]|$)", after) else "unsure"
    return "unsure" if _LEFT_UNSURE.match(after) else "side"


def _kind_of_letter(word: str, before: str, after: str) -> str:
    if _NOUN_AFTER.match(after) or _JOINED_AFTER.match(after) or _JOINED_BEFORE.search(before):
        return "side"
    if _PLACE_BEFORE.search(before) or (before[-1:] in "([" and before and after[:1] in ")]" and after):
        return "side"
    # Litres or the lumbar spine.
    if word == "L" and (re.search(r"\d\s*$", before) or re.match(r"[\s-]*(?:spine|\d)", after, re.IGNORECASE)):
        return "idiom"
    return "unsure"


def _partner(word: str) -> str:
    """The word for the other side, in the same case."""
    if word.lower() in _PAIRS:
        return _cased(_PAIRS[word.lower()], word)
    return {"R": "L", "L": "R", "r": "l", "l": "r"}[word[0]] + word[1:]


def _cased(new: str, old: str) -> str:
    if old.isupper() and len(old) > 1:
        # An abbreviation whose partner is a word ("RML") is not upper-case text.
        return new.upper() if len(old) > 3 or len(new) == 3 else new
    return new[0].upper() + new[1:] if old[0].isupper() else new
