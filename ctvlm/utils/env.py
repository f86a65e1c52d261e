"""Seeds and a summary of the machine."""

from __future__ import annotations

import platform
import random

import mmengine
import numpy as np
import torch


def seed_everything(*entropy: int) -> None:
    """Seed Python's, NumPy's and torch's generators (all devices) from a tuple of non-negative integers.

    The numbers are mixed, not added: (seed, epoch, rank) = (0, 1, 0) and (1, 0, 0) give different streams.
    """
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - transforms of other libraries draw from the global generator
    torch.manual_seed(seed)


def seed_worker(worker_id: int) -> None:
    """Seed a data worker from the main process's generator, so that each epoch augments anew but repeatably.

    torch seeds its own generator in each worker from a number that the main process draws per epoch; NumPy
    and Python would start every worker and every epoch from the same state.
    """
    del worker_id  # torch.initial_seed() differs between workers already
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - as above


def describe_environment() -> str:
    """One line: versions, and what the tensors run on."""
    if torch.cuda.is_available():
        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    else:
        device = f"CPU ({torch.get_num_threads()} threads)"
    return f"Python {platform.python_version()}, torch {torch.__version__}, mmengine {mmengine.__version__}, {device}"
