"""States of the random generators of a process, as plain values for a checkpoint."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from ctvlm.engine.checkpoint.files import CheckpointError


def random_state() -> dict[str, Any]:
    """States of the generators of Python, NumPy, torch, and the current CUDA device."""
    version, numbers, gauss = random.getstate()
    numpy: Any = np.random.get_state()  # noqa: NPY002 - transforms use the global one
    kind, keys, position, has_gauss, cached = numpy
    state = {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, keys.astype("<u4").tobytes(), position, has_gauss, cached],
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().numpy().tobytes()
    return state


def set_random_state(state: Any) -> None:
    """Restore the states that ``random_state`` returned.

    Raises:
        CheckpointError: the value is not such a state.
    """
    try:
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))
        kind, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((kind, np.frombuffer(keys, "<u4"), position, has_gauss, cached))  # noqa: NPY002
        torch.set_rng_state(torch.frombuffer(bytearray(state["torch"]), dtype=torch.uint8))
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(torch.frombuffer(bytearray(state["cuda"]), dtype=torch.uint8))
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's state of the random generators is invalid ({error})") from error
