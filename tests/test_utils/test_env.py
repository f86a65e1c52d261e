from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from ctvlm.utils import random_states_kept, seed_everything


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


def test_random_states_are_restored():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    with pytest.raises(KeyError), random_states_kept():
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        raise KeyError
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


def test_other_devices_are_not_seeded_for_data(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPUs were seeded"))
    seed_everything(3, devices=False)
    numbers = draw()
    seed_everything(3, devices=False)
    assert draw() == numbers
