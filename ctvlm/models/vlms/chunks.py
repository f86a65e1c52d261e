"""Features of a batch, some cases at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.checkpoint import checkpoint

from ctvlm.structures import CTDataSample


def in_chunks(
    features_of: Callable[..., dict[str, Any]], inputs: dict[str, Any], data_samples: list[CTDataSample], size: int
) -> dict[str, Any]:
    """``features_of`` all cases, ``size`` cases at a time: gradient caching, see ``CoTContrastiveVLM``."""
    if size >= len(data_samples):
        return features_of(inputs, data_samples)
    chunks = []
    for start in range(0, len(data_samples), size):
        part = slice(start, start + size)
        cases = {name: None if value is None else value[part] for name, value in inputs.items()}
        # Only the features of a chunk stay in memory. The backward pass computes the rest again.
        chunks.append(checkpoint(features_of, cases, data_samples[part], use_reentrant=False))
    return {name: type(first).cat([chunk[name] for chunk in chunks]) for name, first in chunks[0].items()}
