"""Merlin's text encoder, which reads words and punctuation in lower case, separated by blanks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctvlm.models.text_encoders import PublishedTextEncoder
from ctvlm.registry import TEXT_ENCODERS


@TEXT_ENCODERS.register_module()
class MerlinTextEncoder(PublishedTextEncoder):
    """A Longformer with a projection of the first token. Arguments as in PublishedTextEncoder."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return super().tokenize([separated(text) for text in texts])


def separated(text: str) -> str:
    """Words and punctuation in lower case, separated by blanks."""
    return " ".join(re.findall(r"\w+|[^\w\s]+", text.lower()))
