"""Sentence splitting of reports in any language."""

from __future__ import annotations

import re

import regex
import sentencex

_LINE_END = re.compile(r"[\r\n\u2028\u2029\u0085]+")
# The full stop of an abbreviation or list number does not end a sentence. "no." is handled by _NUMBERED.
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|approx|dr|prof|vs|figs?|cf|resp|rt|lt|im|img|ser|ca|bzw|z\.b|o\.b|re|li)\.|^\W*\d{1,2}[.)])\s*$",
    re.IGNORECASE,
)
# sentencex treats these words as abbreviations ("CT" as Connecticut).
_MISSED_END = regex.compile(r"(?<=\b(?:mm|cm|ml|mL|HU|CT|MR)\.)\s+(?=\p{Lu})")
# An abbreviation only before a number: "Is it there? No. It is not."
_NUMBERED = re.compile(r"\bno\.\s*$", re.IGNORECASE)
# List markers at the start of a sentence: "1.", "(2)", "-", "•".
_BULLET = re.compile(r"^\s*(?:[-*•–]+|\(?\d{1,2}[.)])(?:\s+|$)")


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences with their punctuation; a line break ends a sentence. Only white space is removed.

    Uses sentencex, whose rules apply to Latin, Cyrillic, Chinese, Japanese and Korean text, and joins parts that were
    split at an abbreviation or list number.
    """
    sentences: list[str] = []
    for line in _LINE_END.split(text):
        parts: list[str] = []
        # The language only selects abbreviations; every language includes the punctuation of all scripts.
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
    """``split_sentences`` without list numbers and bullets, and without sentences that contain no letter."""
    parts = (_BULLET.sub("", sentence).strip() for sentence in split_sentences(text))
    return [part for part in parts if any(map(str.isalpha, part))]
