"""Base class of ctvlm's errors."""

from __future__ import annotations


class CTVLMError(Exception):
    """An error that the user can fix. The message states what was found and what was expected."""


class MissingPackageError(CTVLMError, ImportError):
    """An optional package is not installed. The message states how to install it."""
