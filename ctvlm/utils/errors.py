"""The error of ctvlm's own."""

from __future__ import annotations


class CTVLMError(Exception):
    """Something the user can put right: the message names the thing, what was found, what was expected."""
