"""Values of a shared cache: the same in all processes, within the memory, complete after a kill."""

from __future__ import annotations

import copy
import errno
import multiprocessing
import os
import pickle
import signal
import warnings
from functools import partial

import numpy as np
import pytest

from ctvlm.utils import memory, shared_cache
from ctvlm.utils.shared_cache import CacheFullWarning, SharedCache

shared = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="not Linux: processes share no cache")


def value(number: int) -> dict:
    rng = np.random.default_rng(number)
    labels = rng.integers(0, 255, (8, 30, 40), np.uint8)
    return dict(
        volume=rng.integers(-1024, 3000, (8, 30, 40)).astype(np.int16),
        region_map=labels,
        turned=labels.transpose(2, 0, 1)[:, ::-1],
        small=np.arange(3, dtype=np.uint8),
        empty=np.zeros((0, 2), np.uint8),
        text=f"case {number}",
        none=None,
    )


def assert_same(a: dict, b: dict) -> None:
    assert list(a) == list(b)
    for key in a:
        if isinstance(a[key], np.ndarray):
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key])
        else:
            assert a[key] == b[key]


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch):
    """What other programs of this machine leave does not matter."""
    monkeypatch.setattr(shared_cache, "available_memory", lambda device: 2 * memory.total_memory())


@pytest.fixture(params=["memfd", "per process"])
def cache(request, monkeypatch):
    if request.param == "per process":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    return SharedCache("Cases")


def test_values_are_copies_and_stored_once(cache):
    for number in (3, 0):
        assert number not in cache and cache.get(number) is None
        assert cache.put(number, value(number))
    assert cache.put(3, value(1))
    assert len(cache) == 2 and 3 in cache and 1 not in cache
    changed = cache.get(3)
    for array in (changed["volume"], changed["region_map"]):
        array[:] = 0
    assert_same(cache.get(3), value(3))
    assert_same(cache.get(0), value(0))
    cache.clear()
    assert len(cache) == 0 and cache.get(3) is None
    assert cache.put(3, value(1))
    assert_same(cache.get(3), value(1))


def test_label_maps_take_little_memory(cache):
    cache.put(0, np.repeat(np.arange(20, dtype=np.uint8), 50_000).reshape(100, 100, 100))
    stored = len(cache._local[0]) if cache._local else cache._number(shared_cache._END) - shared_cache._DATA
    assert stored < 50_000


def test_copies_are_empty(cache):
    cache.put(0, value(0))
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):  # noqa: S301
        assert len(other) == 0 and other.name == "Cases"
        other.put(0, value(1))
        assert_same(cache.get(0), value(0))


def test_values_that_do_not_fit_are_not_kept(cache, monkeypatch):
    cache.put(0, value(0))
    monkeypatch.setattr(shared_cache, "available_memory", lambda device: 0.2 * memory.total_memory() + 20_000)
    with pytest.warns(CacheFullWarning, match=r"cache of Cases holds 1 cases \(0.00 GiB\).*20% of the memory"):
        assert not cache.put(1, value(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not cache.put(2, value(2))
        assert cache.put(4, "small")
    assert len(cache) == 2 and cache.get(1) is None and cache.get(4) == "small"


@shared
def test_no_memory_while_writing_leaves_no_value(monkeypatch):
    cache = SharedCache("Cases")
    cache.put(0, value(0))
    write = os.pwrite

    def fail(file, content, place):
        if place > shared_cache._DATA:
            write(file, content[:100], place)
            raise OSError(errno.ENOSPC, "no space")
        return write(file, content, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.warns(CacheFullWarning):
            assert not cache.put(1, value(1))
    assert cache.get(1) is None
    assert cache.put(2, value(2))
    assert_same(cache.get(0), value(0))
    assert_same(cache.get(2), value(2))


def _store(cache: SharedCache, numbers: list[int]) -> None:
    for number in numbers:
        if number not in cache:
            cache.put(number, value(number))


@shared
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_what_each_of_them_stores(method):
    cache = SharedCache("Cases")
    context = multiprocessing.get_context(method)
    orders = [list(range(10)), list(range(10))[::-1]]
    processes = [context.Process(target=_store, args=(cache, order)) for order in orders]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    assert len(cache) == 10
    for number in range(10):
        assert_same(cache.get(number), value(number))


def _killed_while_storing(cache: SharedCache) -> None:
    write = os.pwrite

    def kill(file, content, place):
        if place == shared_cache._PLACES + 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(file, content, place)

    os.pwrite = kill
    cache.put(1, value(1))


@shared
def test_a_killed_process_leaves_no_value_and_no_lock():
    cache = SharedCache("Cases")
    cache.put(0, value(0))
    process = multiprocessing.get_context("fork").Process(target=partial(_killed_while_storing, cache))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert len(cache) == 1 and cache.get(1) is None
    assert cache.put(1, value(1))
    assert_same(cache.get(0), value(0))
    assert_same(cache.get(1), value(1))


@shared
def test_a_cache_takes_one_file_descriptor_until_it_is_removed():
    before = len(os.listdir("/proc/self/fd"))
    cache = SharedCache("Cases")
    for number in range(20):
        cache.put(number, value(number))
        cache.get(number)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del cache
    assert len(os.listdir("/proc/self/fd")) == before
