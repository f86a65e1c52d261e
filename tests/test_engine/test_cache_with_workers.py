"""A data set with cache=True reads or draws each case once in a run, with any number of data workers."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import torch
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, DataLoader

from ctvlm.datasets import ManifestCT
from ctvlm.datasets.manifest import write_manifest
from ctvlm.datasets.transforms import load_ct
from ctvlm.engine.loops.seeded_loader import SeededLoader
from ctvlm.phantom import PhantomCT
from ctvlm.phantom.packed import PackedCase
from ctvlm.utils import shared_cache
from ctvlm.utils.shared_cache import CacheFullWarning
from ctvlm.volume import CTVolume, write_nifti

CASES, EPOCHS = 4, 3
RESAMPLED = [dict(type="ResampleCT", shape=(4, 12, 12)), dict(type="RandomShiftCT", max_shift=(1, 2, 2))]
PACKED = [*RESAMPLED, dict(type="RandomNoiseCT", p=0.5), dict(type="PackCTInputs")]

pytestmark = pytest.mark.skipif(not hasattr(shared_cache.os, "memfd_create"), reason="not Linux")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    phantoms = PhantomCT(CASES, shape=(8, 24, 24), num_workers=0)
    cases = []
    for number in range(CASES):
        results = phantoms.results(number)
        name = f"case_{number}"
        for kind, key in (("ct", "volume"), ("regions", "region_map")):
            write_nifti(CTVolume(results[key], results["affine"]), folder / f"{name}_{kind}.nii.gz")
        regions = dict(path=f"{name}_regions.nii.gz", source="thorax_abdomen_20")
        report = dict(findings="", impression=f"Case {number}.")
        case = dict(case_id=name, patient_id=name, split="train", volume=f"{name}_ct.nii.gz", region_map=regions)
        cases.append(dict(case, report=report))
    write_manifest(cases, folder / "cases.jsonl")
    return folder / "cases.jsonl"


def from_files(manifest, cache=True):
    return ManifestCT(str(manifest), pipeline=[dict(type="LoadCT"), *PACKED], cache=cache)


def drawn(manifest, cache=True, pipeline=PACKED, **options):
    return PhantomCT(CASES, shape=(8, 24, 24), pipeline=pipeline, cache=cache, num_workers=0, **options)


SOURCES = {
    "files": from_files,
    "phantoms, resampled": drawn,
    "phantoms, drawn": partial(drawn, pipeline=PACKED[1:]),
    "phantoms, reworded": partial(drawn, reword=True),
}


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch):
    """What other programs of this machine leave does not matter."""
    monkeypatch.setattr(shared_cache, "available_memory", lambda device: 2**50)


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """Number of times that each case was read or drawn, in all processes."""
    log = tmp_path / "reads"
    log.touch()

    def record(case_id):
        with open(log, "a") as file:
            file.write(f"{case_id}\n")

    read, draw = load_ct._read_volume, PackedCase.draw
    monkeypatch.setattr(load_ct, "_read_volume", lambda volume, case: record(case) or read(volume, case))
    monkeypatch.setattr(PackedCase, "draw", lambda job: record(job[2]) or draw(job))
    return lambda: Counter(log.read_text().split())


def content(data, workers=0, epochs=range(EPOCHS), first=0, **options) -> list:
    sampler = DefaultSampler(data, shuffle=True, seed=0)
    options = dict(num_workers=workers, collate_fn=list, multiprocessing_context="fork" if workers else None, **options)
    loader = SeededLoader(DataLoader(data, batch_sampler=BatchSampler(sampler, 2, False), **options), seed=3)
    out = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        for batch in loader.batches(epoch, first):
            for case in batch:
                sample = case["data_samples"]
                row = [sample.case_id, sample.impression, [step.text for step in sample.steps]]
                out.append([*row, case["inputs"]["volume"], case["inputs"]["region_map"]])
    return out


def assert_same(a: list, b: list) -> None:
    assert len(a) == len(b) > 0
    for one, other in zip(a, b):
        assert one[:3] == other[:3]
        assert all(torch.equal(x, y) for x, y in zip(one[3:], other[3:]))


@pytest.mark.parametrize("source", SOURCES)
def test_each_case_is_read_once_in_a_run(manifest, reads, source):
    expected = content(SOURCES[source](manifest, cache=False))
    before = reads()
    assert set(before.values()) == {EPOCHS} and len(before) == CASES
    persistent = dict(workers=2, persistent_workers=True)
    for options in (dict(), dict(workers=2), persistent) if source == "files" else (dict(workers=2),):
        read = reads()
        assert_same(content(SOURCES[source](manifest), **options), expected)
        assert reads() - read == Counter(dict.fromkeys(before, 1)), options


def test_a_pass_that_begins_within_an_epoch_reads_the_same(manifest):
    whole = content(from_files(manifest, cache=False), epochs=[1])
    data = from_files(manifest)
    content(data, workers=2, epochs=[0])
    assert_same(content(data, workers=2, epochs=[1], first=1), whole[2:])
    assert_same(content(from_files(manifest), workers=2, epochs=[1], first=1), whole[2:])


def test_the_cases_that_do_not_fit_are_read_again(manifest, reads, monkeypatch):
    expected = content(from_files(manifest, cache=False))
    read, data = reads(), from_files(manifest)
    # As if other programs left memory for two cases.
    monkeypatch.setattr(shared_cache, "available_memory", lambda device: 0 if len(data.kept) >= 2 else 2**40)
    with pytest.warns(CacheFullWarning, match="cache of ManifestCT holds 2 cases"):
        assert_same(content(data), expected)
    counts = (reads() - read).values()
    assert sorted(counts) == [1, 1, *[EPOCHS] * (CASES - 2)]
    phantoms = drawn(manifest)
    monkeypatch.setattr(shared_cache, "available_memory", lambda device: 0 if len(phantoms.kept) >= 2 else 2**40)
    with pytest.warns(CacheFullWarning, match="cache of PhantomCT holds 2 cases"):
        assert_same(content(phantoms), content(drawn(manifest, cache=False)))


def test_cases_of_a_subset_are_its_own(manifest):
    data, plain = from_files(manifest), from_files(manifest, cache=False)
    content(data, epochs=[0])
    for subset in (data.get_subset([3, 1]), data):
        if subset is data:
            data.get_subset_([3, 1])
        assert [subset[i]["data_samples"].case_id for i in range(2)] == [f"case_{i}" for i in (3, 1)]
    assert data[-1]["data_samples"].case_id == plain[1]["data_samples"].case_id


def test_a_cache_without_effect_is_a_warning(manifest):
    with pytest.warns(UserWarning, match=r"ManifestCT: cache=True has no effect.*RandomNoiseCT\) is random"):
        data = ManifestCT(str(manifest), pipeline=PACKED[2:], cache=True)
    assert data.kept is None


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("bad_cases", ["raise", "skip"])
def test_iteration_ends_with_the_last_case(cache, bad_cases):
    dataset = drawn(None, cache=cache, pipeline=PACKED[:1], bad_cases=bad_cases)
    ids = [item["case_id"] for item, _ in zip(dataset, range(3 * CASES))]
    assert ids == [f"phantom_train_0_{i}" for i in range(CASES)]
    assert dataset[-1]["case_id"] == ids[-1]
    with pytest.raises(IndexError):
        dataset[CASES]
