"""Work on many items gives one result per item, in this process, in others, and on a Dask cluster."""

from __future__ import annotations

import os
import signal

import pytest

from ctvlm.utils import CTVLMError
from ctvlm.utils.parallel import WorkerKilledError, parse_shard, run_parallel, shard_of


def square(number: int) -> int:
    return number**2


def end_process(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def end_at_three(number: int) -> int:
    return end_process(number) if number == 3 else square(number)


def test_serial_results_are_lazy_and_in_order():
    seen = []
    results = run_parallel(lambda n: seen.append(n) or n**2, [3, 4, 5])
    assert next(results) == (0, 9) and seen == [3]
    assert list(results) == [(1, 16), (2, 25)]
    assert list(run_parallel(square, [], workers=3)) == []


def test_processes_give_the_same_results():
    assert sorted(run_parallel(square, range(20), workers=2)) == [(i, i**2) for i in range(20)]


def test_killed_process_is_one_error():
    with pytest.raises(WorkerKilledError, match="while it worked on case c[12].*fewer workers"):
        list(run_parallel(end_process, [1, 2], workers=2, name="case c{}".format))


def test_killed_process_names_its_item_only():
    with pytest.raises(WorkerKilledError, match="while it worked on item 3, usually"):
        list(run_parallel(end_at_three, [1, 2, 3, 4], workers=2, name="item {}".format))


def test_unreachable_scheduler_is_one_error(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'ctvlm[dask]'")

    def no_client(*args, **kwargs):
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", no_client)
    with pytest.raises(CTVLMError, match="tcp://nowhere:1"):
        list(run_parallel(square, [1], scheduler="tcp://nowhere:1"))


def test_shards_cover_all_items_once():
    shards = [shard_of(range(10), (i, 3)) for i in range(3)]
    assert shards[0] == [0, 3, 6, 9] and sorted(sum(shards, [])) == list(range(10))
    assert shard_of([1, 2], None) == [1, 2] and parse_shard("2/10") == (2, 10)
    for text in ("10/10", "1", "-1/3", "a/b", ""):
        with pytest.raises(ValueError, match="expected I/N"):
            parse_shard(text)
