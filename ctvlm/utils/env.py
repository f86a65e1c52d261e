"""Random seeds and a description of the environment."""

from __future__ import annotations

import platform
import random

import mmengine
import numpy as np
import torch


def seed_everything(*entropy: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices) from a tuple of non-negative integers.

    The integers are mixed, not added: (seed, epoch, rank) = (0, 1, 0) and (1, 0, 0) give different streams.
    """
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - transforms of other libraries draw from the global generator
    torch.manual_seed(seed)


def seed_worker(worker_id: int) -> None:
    """Seed a data worker from the main process, so that augmentations differ between epochs but are reproducible.

    torch seeds its own generator in each worker with a number that the main process draws per epoch. Without this
    function, NumPy and Python start every worker and every epoch from the same state.
    """
    del worker_id  # torch.initial_seed() differs between workers already
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - as above


def describe_environment() -> str:
    """One line with the versions of Python, torch and mmengine, and the device."""
    if torch.cuda.is_available():
        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    else:
        device = f"CPU ({torch.get_num_threads()} threads)"
    return f"Python {platform.python_version()}, torch {torch.__version__}, mmengine {mmengine.__version__}, {device}"
