"""Text of files, such as case ids, paths and reports, for the terminal."""

from __future__ import annotations

import unicodedata

from rich.markup import escape


def printable(text: object) -> str:
    """Replace control characters, such as escape sequences and line breaks, by their code: ``\\x1b``."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char
        for char in str(text)
    )


def shown(text: object) -> str:
    """Text that rich prints as it is: without markup and control characters."""
    return escape(printable(text))
