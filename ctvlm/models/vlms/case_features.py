"""What the losses of a batch compare, joined over parts of the batch.

Per level or auxiliary head: pairs, or the sum and count (2) of a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ctvlm.structures import Pairs

Features = dict[str, Pairs | Tensor]


def join_features(chunks: Sequence[Features]) -> Features:
    """The features of a batch from those of its parts, in order."""
    joined: Features = {}
    for name, first in chunks[0].items():
        parts = [chunk[name] for chunk in chunks]
        joined[name] = Pairs.cat(parts) if isinstance(first, Pairs) else torch.stack(parts).sum(dim=0)
    return joined


def device_of(features: Features) -> torch.device:
    """Where the features lie."""
    first = next(iter(features.values()))
    return first.visual_MP.device if isinstance(first, Pairs) else first.device


def in_full_precision(features: Features) -> Features:
    """At least float32: what autocast made in bfloat16 is compared in float32."""

    def full(x: Tensor) -> Tensor:
        return x.to(torch.promote_types(x.dtype, torch.float32))

    return {
        name: replace(found, visual_MP=full(found.visual_MP), text_MP=full(found.text_MP))
        if isinstance(found, Pairs)
        else full(found)
        for name, found in features.items()
    }
