"""Sentences of reports, in any language."""

from __future__ import annotations

import re

import regex
import sentencex

_LINE_END = re.compile(r"[\r\n\u2028\u2029\u0085]+")
# The stop of these ends no sentence. "no." is here with a number only: "Is it there? No. It is not."
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|approx|dr|prof|vs|figs?|cf|resp|rt|lt|im|img|ser|ca|bzw|z\.b|o\.b|re|li)\.|^\W*\d{1,2}[.)])\s*$",
    re.IGNORECASE,
)
# sentencex takes these for abbreviations ("CT" for Connecticut).
_MISSED_END = regex.compile(r"(?<=\b(?:mm|cm|ml|mL|HU|CT|MR)\.)\s+(?=\p{Lu})")
_NUMBERED = re.compile(r"\bno\.\s*$", re.IGNORECASE)
# "1.", "(2)", "-", "•" at the start of a sentence belong to a list.
_BULLET = re.compile(r"^\s*(?:[-*•–]+|\(?\d{1,2}[.)])(?:\s+|$)")


def split_sentences(text: str) -> list[str]:
    """Sentences of a text, each with its stop; a line ends a sentence. Only white space is lost.

    Splits by sentencex, whose rules hold for Latin, Cyrillic, Chinese, Japanese and Korean text alike, and joins again
    what an abbreviation of reports or a list number has split off.
    """
    sentences: list[str] = []
    for line in _LINE_END.split(text):
        parts: list[str] = []
        # The language only selects abbreviations; the stops of all scripts are known to each.
        for part in sentencex.segment("en", line):
            joins = parts and (_ABBREVIATION.search(parts[-1]) or (_NUMBERED.search(parts[-1]) and part[:1].isdigit()))
            if joins:
                parts[-1] += part
            else:
                parts.append(part)
        pieces = (piece.strip() for part in parts for piece in _MISSED_END.split(part))
        sentences += [piece for piece in pieces if piece]
    return sentences


def plain_sentences(text: str) -> list[str]:
    """``split_sentences`` without list numbers and bullets, and without sentences that have no letter."""
    parts = (_BULLET.sub("", sentence).strip() for sentence in split_sentences(text))
    return [part for part in parts if any(map(str.isalpha, part))]
