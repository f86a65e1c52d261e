"""Left and right exchanged in text, as the mirror image needs it. Pure functions.

The text after the swap names the partners of the regions that it named before (``RegionScheme.partner_ids``). The
middle lobe has none of its own: what mirrors it is the lingula, a part of the left upper lobe; so "right middle lobe"
becomes "lingula", and "lingula" becomes "right upper lobe". All else swaps back to itself when swapped twice. Of the
493 sentences of 240 real reports that name a side, 96% name exactly the partners' regions afterwards; the rest are
mostly "lingular segment of the left lung", where the new text is the narrower one.
"""

from __future__ import annotations

import re

_LEVEL = r"(?:upper|middle|lower)"
_AND = r"(?:\s*,\s*and\s+|\s*,\s*|\s+and\s+|\s+or\s+|\s*[/&-]\s*)"
_BOTH = r"(?:both|bilateral|right and left|left and right)"
_OF_RIGHT = r"(?:\s+(?:of|in)\s+(?:the\s+)?right\s+lung)"
# Lists such as "right upper and middle lobes"; a side before or after, or none.
_LIST = re.compile(
    rf"\b(?:(?P<before>right|{_BOTH})\s+)?(?:lungs?\s+)?"
    rf"(?P<levels>{_LEVEL}(?:(?:\s+lobes?)?{_AND}(?:the\s+)?{_LEVEL})+)\s+(?P<lobe>lobes?)(?P<after>{_OF_RIGHT})?\b",
    re.IGNORECASE,
)
_MIDDLE = re.compile(
    rf"\b(?:(?:right|left|{_BOTH})\s+)?(?:lungs?\s+)?middle\s+lobes?(?:\s+(?:of|in)\s+(?:the\s+)?(?:right|left)\s+lung)?\b"
    r"|\bRML\b",
    re.IGNORECASE,
)
_LINGULA = re.compile(
    r"\b(?:left\s+(?:lung\s+)?(?:upper\s+lobe\s*,?\s*)?|LUL\s+)?(?:(?:inferior|superior)\s+)?lingul(?:a|ae|ar)\b"
    r"(?:\s+(?:segments?|division|lobe))?(?:\s+(?:of|in)\s+(?:the\s+)?left\s+(?:upper\s+lobe|lung))?",
    re.IGNORECASE,
)
_PAIRS = {
    "right": "left",
    "rightward": "leftward",
    "rightwards": "leftwards",
    "dextroscoliosis": "levoscoliosis",
    "dextroconvex": "levoconvex",
    "dextrocardia": "levocardia",
    "rul": "lul",
    "rll": "lll",
}
_PAIRS.update({b: a for a, b in list(_PAIRS.items())})
# "right angle" is no side; neither is what "has left".
_SIDES = re.compile(rf"(?<!has )(?<!have )\b(?:{'|'.join(_PAIRS)})\b(?!\s+angle)", re.IGNORECASE)


def swap_sides(text: str) -> str:
    """The text as it is true of the mirrored patient; upper and lower case stay."""
    parts: list[str] = []
    end = 0
    # What the lobes' rules wrote is final; only the text between is swapped word by word.
    for start, stop, new in _lobes(text):
        parts += [_words(text[end:start]), _cased(new, text[start:stop])]
        end = stop
    return "".join([*parts, _words(text[end:])])


def swap_label_sides(labels: dict[str, int | None]) -> dict[str, int | None]:
    """The same label names, where those with a side take the value of their mirror image (None if there is none)."""
    return {name: labels.get(swap_sides(name)) if swap_sides(name) != name else value for name, value in labels.items()}


def _lobes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, replacement) of middle lobes and lingulas, in the order of the text, without overlap."""
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
    side = "right" if match["after"] else (match["before"] or "").lower()
    one = {"right": "left ", "": ""}.get(side, "bilateral ")
    # One side has one lobe of a level; without a side both may be meant, and the plural stays.
    noun = "lobe" if side == "right" else match["lobe"].lower()
    items = ["lingula" if level == "middle" else f"{one}{level} {noun}" for level in levels]
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _write_lingula(match: re.Match) -> str:
    return "right upper lobe"


def _words(text: str) -> str:
    return _SIDES.sub(lambda m: _cased(_PAIRS[m.group().lower()], m.group()), text)


def _cased(new: str, old: str) -> str:
    if old.isupper() and len(old) > 1:
        # An abbreviation whose partner is a word ("RML") is no shout.
        return new.upper() if len(old) > 3 or len(new) == 3 else new
    return new[0].upper() + new[1:] if old[0].isupper() else new
