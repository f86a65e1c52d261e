"""Checkpoints with random entries raise only CheckpointError; see test_fuzz.py for the number of examples."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from ctvlm.engine import CheckpointError, CTVLMRunner, read_checkpoint
from ctvlm.engine.checkpoint.changed_settings import describe_changes
from ctvlm.engine.checkpoint.resume_state import resume_run
from tests.test_datasets.test_fuzz import fuzz, hypothesis, plain, st


def paths_of(value, prefix=()) -> list[tuple]:
    """Places of a nested container, each as keys and indices."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if type(value) is list else []
    # Long lists, such as a random state, have many equal places.
    return [place for key, item in items[:30] for place in [(*prefix, key), *paths_of(item, (*prefix, key))]]


def changed(checkpoint, path, value, remove):
    target = checkpoint
    for key in path[:-1]:
        target = target[key]
    if remove:
        del target[path[-1]]
    else:
        target[path[-1]] = value


@pytest.fixture
def run(toy_config):
    """A runner, and the content of its checkpoint within the second epoch."""
    cfg = toy_config(
        train_cfg__max_epochs=2, default_hooks__checkpoint__by_epoch=False, default_hooks__checkpoint__interval=5
    )
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    return runner, torch.load(Path(cfg.work_dir) / "iter_5.pth", weights_only=True)


places = st.tuples(st.integers(0, 10**6), st.one_of(plain, st.binary(max_size=8), st.just({1: 2})), st.booleans())


def test_checkpoint_contents(run, tmp_path):
    runner, valid = run
    path = tmp_path / "a.pth"
    every = paths_of(valid)
    top = [place for place in every if len(place) <= 2]

    @fuzz
    @hypothesis.given(st.lists(places, min_size=1, max_size=3), st.booleans())
    def resume(changes, shallow):
        content = copy.deepcopy(valid)
        for number, value, remove in changes:
            some = top if shallow else every
            try:
                changed(content, some[number % len(some)], value, remove)
            except (KeyError, IndexError, TypeError):  # the place was removed or replaced before
                continue
        torch.save(content, path)
        try:
            checkpoint = read_checkpoint(path)
            runner.call_hook("after_load_checkpoint", checkpoint=checkpoint)
            resume_run(runner, checkpoint, path)
            describe_changes(runner.cfg, checkpoint)
        except CheckpointError as error:
            assert "a.pth" in str(error)

    resume()


@fuzz
@hypothesis.given(st.one_of(plain, st.dictionaries(st.sampled_from(["state_dict", "meta", "ema_state_dict"]), plain)))
def test_any_content(tmp_path, content):
    path = tmp_path / "a.pth"
    torch.save(content, path)
    try:
        read_checkpoint(path)
    except CheckpointError as error:
        assert "a.pth" in str(error)
