"""The logit scale of a published image-text model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ctvlm.utils import check_choice
from ctvlm.utils.errors import CheckpointError


def published_scale(weights: Mapping[str, Tensor], path: str | Path, key: str, stored: str) -> float:
    """Factor of cosine similarities from the weight ``key`` of a published file.

    Args:
        stored: ``log``: the weight is the logarithm of the scale; ``temperature``: its inverse.

    Raises:
        CheckpointError: the file has no such number.
    """
    check_choice("model.logit_scale", "stored", stored, ("log", "temperature"))
    value = weights.get(key)
    if value is None or value.numel() != 1:
        found = "no such weight" if value is None else f"a weight of shape {tuple(value.shape)}"
        single = [name for name, other in weights.items() if other.numel() == 1 and other.is_floating_point()]
        raise CheckpointError(
            f"checkpoint {path}: model.logit_scale.key = {key!r}; found {found}, expected one number. Its weights with "
            f"one number: {', '.join(single[:3]) or 'none'}"
        )
    scale = math.exp(value.item()) if stored == "log" else 1 / value.item() if value.item() else math.inf
    if not 0 < scale < math.inf:
        raise CheckpointError(f"checkpoint {path}: {key} = {value.item():g} gives no positive logit scale")
    return scale
