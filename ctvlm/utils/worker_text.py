"""Text into which torch wraps an exception of a data worker."""

from __future__ import annotations

import re

_WRAPPED = re.compile(r"Caught (\w+) in \S.*\nOriginal Traceback \(most recent call last\):\n")
_BLOCK = "Traceback (most recent call last):"


def worker_message(text: str) -> str:
    """Message of the exception of a data worker, without the traceback that torch adds; other text is unchanged."""
    wrapped = _WRAPPED.match(text)
    if wrapped is None:
        return text
    # The last traceback is that of the exception itself; earlier ones are its causes.
    lines = text[text.rfind(_BLOCK) :].rstrip().split("\n")
    head = re.compile(rf"(?:[\w.<>]+\.)?{wrapped[1]}(?::|$)")
    start = next((i for i, line in enumerate(lines) if head.match(line)), None)
    if start is None:
        return text
    message = "\n".join([lines[start][head.match(lines[start]).end() :].lstrip(), *lines[start + 1 :]])  # type: ignore[union-attr]
    return message or wrapped[1]
