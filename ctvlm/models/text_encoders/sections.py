"""Long texts in sections that end where sentences end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctvlm.text import split_sentences


def split_tokens(
    text: str, tokens: list[int], room: int, tokenize: Callable[[Sequence[str]], list[list[int]]]
) -> list[list[int]]:
    """Sections of at most ``room`` tokens, as many whole sentences in each as fit.

    Only a sentence longer than ``room`` is cut inside. A text that fits is one section, whatever is in it.
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
