"""The disk cache of PhantomCT returns the drawn cases and reads only intact files of the current generator."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest

from ctvlm.phantom import disk_cache, draw_ahead
from ctvlm.phantom.disk_cache import DiskCache
from ctvlm.phantom.packed import PackedCase
from ctvlm.phantom.phantom_ct import CHUNK, PhantomCT

SHAPE = (8, 24, 24)


def build(folder, num_cases=3, **kwargs) -> PhantomCT:
    return PhantomCT(num_cases, shape=SHAPE, cache_dir=folder, **{"num_workers": 0, **kwargs})


def read_all(data: PhantomCT) -> None:
    for index in range(len(data)):
        data.results(index)


def assert_same(a: PhantomCT, b: PhantomCT) -> None:
    for i in range(len(a)):
        one, other = a.results(i), b.results(i)
        for key in ("volume", "region_map", "lesion_map", "affine"):
            np.testing.assert_array_equal(one[key], other[key], strict=True)
        for key in ("report", "cot", "labels", "spacing", "case_id", "patient_id"):
            assert one[key] == other[key] and type(one[key]) is type(other[key])


@pytest.fixture
def drawn(monkeypatch):
    """Jobs of the cases drawn in this process."""
    jobs = []
    draw = PackedCase.draw
    monkeypatch.setattr(PackedCase, "draw", lambda job: jobs.append(job) or draw(job))
    return jobs


def files(folder):
    return sorted(folder.glob("*/*.npz"))


@pytest.mark.parametrize("cache", [True, False])
def test_second_run_reads_the_cases_of_the_first(tmp_path, drawn, cache):
    plain, first = build(None, CHUNK + 2), build(tmp_path, CHUNK + 2, cache=cache)
    assert_same(plain, first)
    drawn.clear()
    second = build(tmp_path, CHUNK + 2, cache=cache)
    assert_same(plain, second)
    assert not drawn
    assert len(files(tmp_path)) == CHUNK + 2 == len(list(tmp_path.rglob("*"))) - 1  # no partial file


def test_volume_from_disk_is_read_only(tmp_path):
    build(tmp_path).results(0)
    with pytest.raises(ValueError, match="read-only"):
        build(tmp_path).results(0)["volume"][:] = 0


def test_other_seeds_splits_and_shapes_use_other_files(tmp_path, drawn):
    for kwargs in ({}, dict(seed=1), dict(split="val"), dict(shape=(8, 24, 32)), dict(num_cases=2)):
        read_all(PhantomCT(**{"num_cases": 3, "shape": SHAPE, "num_workers": 0, "cache_dir": tmp_path, **kwargs}))
    # A shorter split has the cases of a longer one.
    assert len(drawn) == len(files(tmp_path)) == 12


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign", "pickle"])
def test_damaged_file_is_drawn_again(tmp_path, drawn, damage):
    read_all(build(tmp_path))
    path = files(tmp_path)[1]
    sound = path.read_bytes()
    if damage == "pickle":
        np.savez(path, text=np.array([{"seed": 0}], dtype=object))
    else:
        middle = len(sound) // 2
        flipped = sound[:middle] + bytes([sound[middle] ^ 255]) + sound[middle + 1 :]
        foreign = pickle.dumps([1, 2])
        path.write_bytes({"cut": sound[:middle], "flip": flipped, "empty": b"", "foreign": foreign}[damage])
    drawn.clear()
    assert_same(build(None), build(tmp_path))
    assert len(drawn) == 4 and path.read_bytes() == sound


def test_changed_code_uses_another_folder(tmp_path, monkeypatch):
    """The fingerprint covers the bytes of the source."""
    here = DiskCache(tmp_path).folder
    assert here == DiskCache(tmp_path).folder
    package = tmp_path / "phantom"
    package.mkdir()
    (package / "chest.py").write_text("LUNG = -850\n")
    monkeypatch.setattr(disk_cache, "__file__", str(package / "disk_cache.py"))
    names = {here.name}
    for text in ("LUNG = -850\n", "LUNG = -800\n"):
        (package / "chest.py").write_text(text)
        disk_cache.fingerprint.cache_clear()
        names.add(DiskCache(tmp_path).folder.name)
    monkeypatch.undo()
    disk_cache.fingerprint.cache_clear()
    assert len(names) == 3 and DiskCache(tmp_path).folder == here


def _draw_all(folder):
    read_all(build(folder, CHUNK))


def test_concurrent_processes_agree(tmp_path):
    plain = build(None, CHUNK)
    other = multiprocessing.get_context("spawn").Process(target=_draw_all, args=(tmp_path,))
    other.start()
    while other.is_alive():  # the other process draws meanwhile
        for path in files(tmp_path):
            path.unlink(missing_ok=True)
        _draw_all(tmp_path)
    assert other.exitcode == 0
    assert_same(build(tmp_path, CHUNK), plain)
    assert len(files(tmp_path)) == CHUNK


def test_loader_worker_caches_the_cases_it_draws(tmp_path, drawn, monkeypatch):
    class Daemon:
        daemon = True

    monkeypatch.setattr(draw_ahead.multiprocessing, "current_process", Daemon)
    for _ in range(2):
        build(tmp_path).results(2)
    assert len(drawn) == len(files(tmp_path)) == 1
