"""Sections of long texts, split at ends of sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctvlm.text import split_sentences


def split_tokens(
    text: str, tokens: list[int], room: int, tokenize: Callable[[Sequence[str]], list[list[int]]]
) -> list[list[int]]:
    """Sections of at most ``room`` tokens, each with as many whole sentences as possible.

    Only a sentence longer than ``room`` is split. A text within the limit is one section.
    """
    if len(tokens) <= room:
        return [tokens]
    sections: list[list[int]] = [[]]
    for sentence in tokenize(split_sentences(text)):
        if len(sections[-1]) + len(sentence) > room:
            sections += [sentence[start : start + room] for start in range(0, len(sentence), room)]
        else:
            sections[-1] += sentence
    return [section for section in sections if section]
