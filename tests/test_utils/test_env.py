from __future__ import annotations

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ctvlm.utils import seed_everything, seed_worker


def draw():
    return random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002


def test_equal_entropy_gives_equal_numbers_and_its_order_matters():
    draws = {}
    for entropy in [(0, 1, 0), (1, 0, 0), (0, 0, 1), (1, 1, 0)]:
        seed_everything(*entropy)
        draws[entropy] = draw()
        seed_everything(*entropy)
        assert draw() == draws[entropy]
    assert len(set(draws.values())) == 4


class Noise(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.random.random(), random.random()  # noqa: NPY002


def test_workers_and_epochs_differ_and_are_reproducible():
    loader = DataLoader(Noise(), num_workers=2, worker_init_fn=seed_worker, multiprocessing_context="fork")
    epochs = []
    for seed in (1, 2, 1):
        seed_everything(seed)
        epochs.append(torch.cat([torch.stack(batch) for batch in loader]).flatten().tolist())
    assert epochs[0] == epochs[2]
    assert len(set(epochs[0] + epochs[1])) == 16
