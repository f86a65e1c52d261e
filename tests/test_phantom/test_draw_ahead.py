"""Cases that are drawn while they are read are the same; the processes that draw end with the training."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, DataLoader

from ctvlm.engine.loops.seeded_loader import SeededLoader
from ctvlm.phantom import PhantomCT, draw_ahead
from ctvlm.utils import shared_cache

SHAPE = (8, 24, 24)
CASES = 12


def build(num_workers=1, num_cases=CASES, **options) -> PhantomCT:
    return PhantomCT(num_cases, shape=SHAPE, num_workers=num_workers, **options)


def loader(data: PhantomCT, workers: int = 0) -> SeededLoader:
    batches = BatchSampler(DefaultSampler(data, shuffle=True, seed=0), 4, drop_last=False)
    return SeededLoader(DataLoader(data, batch_sampler=batches, num_workers=workers, collate_fn=list), seed=3)


def content(batches) -> list:
    return [[{key: plain(value) for key, value in case.items()} for case in batch] for batch in batches]


def plain(value):
    return (str(value.dtype), value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch):
    """What other programs of this machine leave does not matter."""
    monkeypatch.setattr(shared_cache, "available_memory", lambda device: 2**50)


@pytest.fixture(scope="module")
def expected() -> list:
    """Two epochs of cases that are drawn one by one in this process."""
    source = loader(build(0, cache=False, reword=True))
    return [content(source.batches(epoch)) for epoch in (0, 1)]


@pytest.mark.parametrize("cache", [True, False])
def test_the_first_batch_does_not_wait_for_all_cases(expected, monkeypatch, cache):
    monkeypatch.setattr(draw_ahead, "MAX_CASES", 5)
    data = build(reword=True, cache=cache)
    iterator = loader(data).batches(0)
    first = next(iterator)
    # One batch has been read, and a limited number of cases is drawn ahead.
    assert (len(data.kept) == 4) if cache else data.kept is None
    assert 0 < len(data._ahead._drawing) <= 5
    assert content([first, *iterator]) == expected[0]
    assert content(loader(data).batches(1)) == expected[1]
    assert not data._ahead._drawing and not data._ahead._order
    assert (data._ahead._pool is None) == cache  # all cases are in memory
    data._ahead.close()


def test_resumed_epochs_and_data_workers_read_the_same_cases(expected):
    data = build(reword=True)
    assert content(loader(data).batches(0, first=1)) == expected[0][1:]
    assert len(data.kept) == CASES - 4  # those before the first batch are not drawn
    assert content(loader(data).batches(1)) == expected[1]
    assert content(loader(build(reword=True), 2).batches(0)) == expected[0]


def test_an_unfinished_epoch_leaves_no_work(monkeypatch):
    monkeypatch.setattr(draw_ahead, "MAX_CASES", 6)
    data = build()
    iterator = loader(data).batches(0)
    next(iterator)
    assert data._ahead._drawing
    del iterator
    assert not data._ahead._drawing and not data._ahead._order
    data._ahead.close()


def test_a_killed_process_is_replaced_by_drawing_in_this_one(expected, monkeypatch):
    said = []
    monkeypatch.setattr(draw_ahead, "print_log", lambda text, logger: said.append(text))
    monkeypatch.setattr(draw_ahead, "MAX_CASES", 5)
    data = build(reword=True)
    iterator = loader(data).batches(0)
    read = [next(iterator)]
    for pid in list(data._ahead._pool._processes):
        os.kill(pid, signal.SIGKILL)
    assert content([*read, *iterator]) == expected[0]
    assert len(said) == 1 and "draws in one process" in said[0]


def test_copies_have_no_processes():
    data = build()
    data.expect(range(2))
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):  # noqa: S301
        assert other._ahead._pool is None and not other._ahead._drawing and other._ahead.size == data._ahead.size
        np.testing.assert_array_equal(other.results(0)["volume"], data.results(0)["volume"])
        other._ahead.close()
    data._ahead.close()


def test_the_disk_cache_is_filled_and_read(expected, tmp_path):
    for read in range(2):
        data = build(reword=True, cache_dir=tmp_path)
        assert content(loader(data).batches(0)) == expected[0]
        assert len(list(tmp_path.glob("*/*.npz"))) == CASES
        assert data._ahead._pool is None and data._ahead.used, read


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.usefixtures("signals_not_ignored")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(tmp_path, number):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from ctvlm.phantom import PhantomCT\n"
        "if __name__ == '__main__':\n"
        "    data = PhantomCT(16, num_workers=1)\n"
        "    data.expect(range(16))\n"
        "    data.results(0)\n"
        "    print(*data._ahead._pool._processes, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as main:
        (pid,) = map(int, main.stdout.readline().split())
        main.send_signal(number)
        main.wait(240)
    for _ in range(2400):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} still runs")


def test_texts_of_many_cases_are_written_in_the_processes(monkeypatch):
    monkeypatch.setattr(draw_ahead, "MIN_CALLS", 4)
    data = build()
    try:
        assert data.texts() == build(0).texts()
        assert data._ahead._pool is not None
    finally:
        data._ahead.close()
