"""ctvlm view."""

from __future__ import annotations


def view_command() -> None:
    """Write a page that shows a CT."""
    from ctvlm.utils import CTVLMError

    raise CTVLMError("ctvlm view is not available yet")
