"""Ids of texts. Texts with equal ids are positives of one another."""

from __future__ import annotations

import hashlib

from ctvlm.structures import CoTStep


def text_id(*texts: str) -> int:
    """A number (63 bits) that is equal for equal texts on every rank and machine."""
    digest = hashlib.blake2b("\x1f".join(texts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def step_id(step: CoTStep) -> int:
    """Id of a step. Equal for equal texts, and for steps that state that the same regions are normal."""
    return text_id("normal", *map(str, sorted(step.regions))) if step.normal else text_id(step.text)
