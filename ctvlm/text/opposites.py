"""Opposites of English report sentences: negation added or removed, sides swapped, size words swapped. Pure functions.

An opposite is false where the sentence is true. Sentences for which this is uncertain have none: statements that are
limited ("cannot be excluded"), sides in statements that nothing is wrong (the other side can be normal too), and
findings of both sides.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ctvlm.text.laterality import find_ambiguous_side, swap_sides

KINDS = ("negation", "laterality", "size")


class Opposite(NamedTuple):
    """A false sentence, and the kind of its change (one of ``KINDS``)."""

    kind: str
    text: str


_UNSURE = re.compile(
    r"\b(?:neither|nor|can\s?not|could|exclude[ds]?|excluding|evaluat\w+|assess\w*|\w*optimal\w*|limited|unlikely|"
    r"recommend\w*|understood|no longer|not only|no(?:\s+\w+){0,2}\s+changes?|unchanged|no\.|"
    r"no (?:more|less|larger|smaller))(?!\w)",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:no|not|without|none|free of|absen(?:t|ce)|negative|never|den(?:y|ies))\b", re.IGNORECASE)
_NORMAL = re.compile(
    r"\b(?:normal\w*|clear|unremarkable|patent|preserved|intact|within (?:the )?limits|open|midline|natural|"
    r"homogeneous)\b",
    re.IGNORECASE,
)
_BE = r"(?:is|are|was|were)"
_SEEN = r"(?:seen|present|noted|observed|detected|identified|visible|found|demonstrated)"
_SOME = r"(?:an?\s+few|an?|some|few|several|multiple|numerous)\s+"
# The first rule that matches is applied once: the whole sentence is then false.
_REMOVE = (
    (re.compile(rf"\b(there {_BE}) no\s+", re.IGNORECASE), r"\1 "),
    (re.compile(r"\bno\s+(?=\w)", re.IGNORECASE), ""),
    (re.compile(r"\bwithout\b", re.IGNORECASE), "with"),
    (re.compile(rf"\b({_BE}) not\b", re.IGNORECASE), r"\1"),
)
_ADD = (
    (re.compile(rf"\b(there {_BE})\s+(?:{_SOME})?", re.IGNORECASE), r"\1 no "),
    (re.compile(rf"^{_SOME}(?=.*?\b{_BE}\s+(?:also\s+)?{_SEEN}\b)", re.IGNORECASE), "No "),
    (re.compile(rf"\b({_BE})\b(?!\s+being)", re.IGNORECASE), r"\1 not"),
    (re.compile(r"\b(show|contain|demonstrate|reveal)s\b", re.IGNORECASE), r"does not \1"),
    (re.compile(r"\b(show|contain|demonstrate|reveal)\b", re.IGNORECASE), r"do not \1"),
)
_SIZES = {
    "small": "large", "large": "small", "tiny": "large", "huge": "small", "sizeable": "small",
    "mild": "severe", "severe": "mild", "slight": "severe", "marked": "mild", "pronounced": "mild", "advanced": "mild",
    "minimal": "extensive", "extensive": "minimal", "widespread": "minimal", "thin": "thick", "thick": "thin",
    "a few": "numerous", "few": "numerous", "numerous": "a few",
    "mildly": "severely", "severely": "mildly", "slightly": "severely", "markedly": "mildly",
}  # fmt: skip
# "small bowel" is a name, not a size.
_SIZE = re.compile(
    rf"\b(?:(?P<article>an?)\s+)?(?<![\w-])(?P<size>{'|'.join(sorted(_SIZES, key=len, reverse=True))})(?![\w-])"
    r"(?!\s+(?:bowels?|intestines?|airways?|vessels?|cells?|arter\w+)\b)",
    re.IGNORECASE,
)
_RIGHT = re.compile(r"(?<![^\W_])right\w*|\b(?:rt|R[ULM]L)\b", re.IGNORECASE)
_LEFT = re.compile(r"(?<![^\W_])left\w*|\b(?:lt|L[UL]L)\b|\blingul\w+", re.IGNORECASE)
_BOTH = re.compile(r"\b(?:both|bilateral\w*|either)\b", re.IGNORECASE)


def opposites(text: str) -> list[Opposite]:
    """The opposites of a sentence, at most one of each kind; empty if no rule applies."""
    if _UNSURE.search(text):
        return []
    found = [Opposite("negation", _negate(text))]
    if not _NEGATION.search(text) and not _NORMAL.search(text):
        found += [Opposite("laterality", _other_side(text)), Opposite("size", _SIZE.sub(_other_size, text))]
    return [opposite for opposite in found if opposite.text != text]


def _negate(text: str) -> str:
    rules = _REMOVE if _NEGATION.search(text) else _ADD
    for pattern, replacement in rules:
        changed, count = pattern.subn(replacement, text, count=1)
        if count:
            return _same_capital(changed, text)
    return text


def _other_side(text: str) -> str:
    """The text with its side swapped; the text itself if it has no side, two sides, or an ambiguous side word."""
    if bool(_RIGHT.search(text)) == bool(_LEFT.search(text)) or _BOTH.search(text) or find_ambiguous_side(text):
        return text
    return swap_sides(text)


def _other_size(match: re.Match) -> str:
    new = _SIZES[match["size"].lower()]
    if match["article"] and new != "numerous":
        new = f"{'an' if new[0] in 'aeiou' else 'a'} {new}".replace("an a few", "a few")
    return _same_capital(new, match.group())


def _same_capital(new: str, old: str) -> str:
    return new[:1].upper() + new[1:] if old[:1].isupper() else new
