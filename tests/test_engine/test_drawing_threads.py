"""While other processes draw phantoms, the training leaves them processor cores."""

from __future__ import annotations

import pytest
import torch

from ctvlm.engine.loops.epoch_loop import ResumableEpochLoop, fewer_threads
from ctvlm.phantom import PhantomCT


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("others, threads", [(0, 4), (1, 3), (4, 1), (9, 1)])
def test_one_thread_is_left_and_all_are_restored(others, threads):
    with pytest.raises(KeyError), fewer_threads(others):
        assert torch.get_num_threads() == threads
        raise KeyError
    assert torch.get_num_threads() == 4


def loop(epoch: int, workers: int = 0, **options) -> ResumableEpochLoop:
    built = ResumableEpochLoop.__new__(ResumableEpochLoop)
    built.dataloader = torch.utils.data.DataLoader(PhantomCT(4, shape=(8, 16, 16), **options), num_workers=workers)
    built._epoch = epoch
    return built


def test_only_processes_that_draw_in_this_epoch_count(tmp_path):
    draws = loop(0)
    assert draws._drawing_processes() == 2
    assert loop(1)._drawing_processes() == 0
    assert loop(0, num_workers=0)._drawing_processes() == 0
    assert loop(0, workers=1)._drawing_processes() == 0
    assert loop(0, cache_dir=tmp_path)._drawing_processes() == 0
    draws.dataloader.dataset.results(0)
    assert draws._drawing_processes() == 0
