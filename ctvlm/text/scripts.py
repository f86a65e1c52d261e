"""Writing systems and words."""

from __future__ import annotations

import regex

# Scripts without blanks between words: each character counts as a word, as is usual in scores of such text.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORDS = regex.compile(rf"(?V1)[{_UNSPACED}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+")
_LETTERS = regex.compile(r"\p{L}")
_LATIN = regex.compile(r"\p{Latin}")
# Allows symbols such as "α" or "µ" in Latin text.
_MIN_SHARE = 0.95


def is_latin(text: str) -> bool:
    """Whether at least 95% of the letters are Latin; True for a text without letters."""
    letters = len(_LETTERS.findall(text))
    return len(_LATIN.findall(text)) >= _MIN_SHARE * letters


def words(text: str) -> list[str]:
    """Lower-case words and numbers; single characters for scripts without blanks (Chinese, Japanese, Thai).

    For ASCII text these are the tokens of the rouge-score package.
    """
    return _WORDS.findall(text.lower())
