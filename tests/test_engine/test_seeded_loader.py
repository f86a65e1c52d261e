"""Random numbers of data loading depend on the seed, the epoch and the case only."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, WeightedRandomSampler

from ctvlm.engine import CTVLMRunner
from ctvlm.engine.loops import seeded_loader
from ctvlm.engine.loops.seeded_loader import SeededLoader

CASES = 8


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002


class Draws(Dataset):
    """Index and one number of each global generator."""

    def __len__(self):
        return CASES

    def __getitem__(self, index):
        return index, *draw()


def collate(samples):
    return samples, draw()


def loader(workers=0, sampler=None, batch_size=4, **options):
    sampler = sampler or DefaultSampler(Draws(), shuffle=True, seed=0)
    batches = BatchSampler(sampler, batch_size, drop_last=False)
    inner = DataLoader(Draws(), batch_sampler=batches, num_workers=workers, collate_fn=collate, **options)
    return SeededLoader(inner, seed=3)


def test_workers_and_persistent_workers_give_the_same_numbers():
    loaders = [loader(), loader(2), loader(1, persistent_workers=True)]
    expected = [list(loaders[0].batches(epoch)) for epoch in (0, 1)]
    for other in loaders[1:]:
        assert [list(other.batches(epoch)) for epoch in (0, 1)] == expected
    numbers = [n for epoch in expected for samples, own in epoch for row in [*samples, (None, *own)] for n in row[1:]]
    assert len(set(numbers)) == len(numbers) == 2 * 3 * (CASES + 2)


def test_batches_are_skipped():
    whole = loader()
    assert list(whole.batches(1, first=1)) == list(whole.batches(1))[1:]


@pytest.mark.parametrize("workers", [0, 2])
def test_numbers_of_the_model_do_not_depend_on_the_data(workers):
    seeds = []
    for _ in range(2):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
        iterator = iter(loader(workers))
        if seeds:
            next(iterator)
        seeds.append(draw())
    assert seeds[0] == seeds[1]


def as_rank(monkeypatch, rank, world):
    monkeypatch.setattr(seeded_loader, "get_rank", lambda: rank)
    monkeypatch.setattr(seeded_loader, "get_world_size", lambda: world)
    monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda: (rank, world))


def rows(monkeypatch, world, sampler, batches):
    """What all processes draw, sorted."""
    out = []
    for rank in range(world):
        as_rank(monkeypatch, rank, world)
        iterator = iter(loader(sampler=sampler(Draws(), shuffle=True, seed=0), batch_size=2))
        out += [row for _, (samples, _) in zip(range(batches // world), iterator) for row in samples]
    return sorted(out)


@pytest.mark.parametrize("sampler", [DefaultSampler, InfiniteSampler])
def test_two_processes_draw_what_one_draws(monkeypatch, sampler):
    batches = CASES // 2 if sampler is DefaultSampler else CASES
    one = rows(monkeypatch, 1, sampler, batches)
    assert rows(monkeypatch, 2, sampler, batches) == one
    assert Counter(row[0] for row in one).keys() == set(range(CASES))
    assert len({row[1] for row in one}) == len(one)  # also those that an endless sampler repeats


def test_repeated_cases_have_other_numbers():
    sampler = WeightedRandomSampler([1.0] + [1e-9] * (CASES - 1), CASES)
    ((first, _), (second, _)) = list(loader(sampler=sampler))
    assert len({row[1] for row in first + second}) == CASES


def losses(toy_config, folder, workers, **options):
    cfg = toy_config(folder, train_dataloader__num_workers=workers, train_cfg__max_epochs=2, **options)
    # Validation data that draw random numbers, too.
    cfg.val_dataloader.dataset.augment = True
    cfg.val_dataloader.num_workers = workers
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    log = torch.load(Path(cfg.work_dir) / "epoch_2.pth", weights_only=True)["message_hub"]["log_scalars"]
    return [log[key]["values"] for key in ("train/loss", "val/toy/error")]


def test_losses_of_a_training_do_not_depend_on_the_workers(toy_config):
    expected = losses(toy_config, "a", 0)
    assert len(expected[0]) == 6
    assert losses(toy_config, "b", 2) == expected
    assert losses(toy_config, "c", 1, train_dataloader__persistent_workers=True) == expected
