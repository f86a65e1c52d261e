"""Random seeds and a description of the environment."""

from __future__ import annotations

import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager

import mmengine
import numpy as np
import torch


def seed_everything(*entropy: int, devices: bool = True) -> None:
    """Seed the generators of Python, NumPy and torch from non-negative integers: CPU, and with ``devices`` all devices.

    The integers are mixed, not added: (seed, epoch, rank) = (0, 1, 0) and (1, 0, 0) give different streams.
    """
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - transforms of other libraries draw from the global generator
    if devices:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def random_states_kept(devices: bool = True) -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch on exit: CPU, and with ``devices`` the current GPU."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global generator of transforms
    gpus = [torch.cuda.current_device()] if devices and torch.cuda.is_available() else []
    with torch.random.fork_rng(gpus):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - as above


def describe_environment() -> str:
    """One line with the versions of Python, torch and mmengine, and the device."""
    versions = f"torch {torch.__version__}, mmengine {mmengine.__version__}"
    return f"Python {platform.python_version()}, {versions}, {describe_device()}"


def describe_device() -> str:
    """Number and name of the GPUs, or the number of CPU threads."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"CPU ({torch.get_num_threads()} threads)"
