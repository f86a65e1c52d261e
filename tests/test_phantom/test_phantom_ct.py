"""PhantomCT as a data set: disjoint splits, cases independent of caching and workers, keys for pipelines."""

from __future__ import annotations

import json
import pickle
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ctvlm.datasets  # noqa: F401  registers
from ctvlm.anatomy import RegionScheme
from ctvlm.datasets import read_manifest
from ctvlm.phantom import ids
from ctvlm.phantom.packed import PackedCase
from ctvlm.phantom.phantom_ct import CHUNK, PhantomCT, case_seed
from ctvlm.registry import DATASETS

SHAPE = (16, 48, 48)
TOOL = Path(__file__).resolve().parents[2] / "tools" / "dataset_converters" / "write_phantom.py"


def build(**kwargs) -> PhantomCT:
    return DATASETS.build({"type": "PhantomCT", "num_cases": 3, "shape": SHAPE, "num_workers": 0, **kwargs})


def test_ids_match_the_scheme():
    scheme = RegionScheme.load("thorax_abdomen_20")
    values = {getattr(ids, name.upper()) for name in scheme.names if hasattr(ids, name.upper())}
    assert len(values) == 15
    assert all(scheme.id_of(n) == getattr(ids, n.upper()) for n in scheme.names if hasattr(ids, n.upper()))


def test_results_have_the_keys_of_a_manifest_and_arrays():
    results = build().results(1)
    keys = "case_id patient_id split volume region_map lesion_map spacing affine report cot labels scheme"
    assert set(keys.split()) <= set(results)
    assert results["volume"].shape == results["region_map"].shape == results["lesion_map"].shape == SHAPE
    assert set(results["report"]) == {"findings", "impression"}
    for step in results["cot"]:
        assert {"step", "text", "entities", "regions", "lesion"} <= set(step)
        assert step["lesion"] is None or (results["lesion_map"] == step["lesion"]).any()


def test_packs_into_model_inputs():
    item = build(pipeline=[dict(type="PackCTInputs")])[0]
    assert item["inputs"]["volume"].shape == (1, *SHAPE)
    assert item["data_samples"].impression and len(item["data_samples"].steps) >= 6
    assert build(pipeline=[dict(type="PackCTInputs")], with_region_map=False)[0]["inputs"]["region_map"] is None


def test_reword_changes_the_wording_but_not_the_findings():
    plain, reworded = build(), build(reword=True)
    torch.manual_seed(0)
    read = [reworded.results(2) for _ in range(4)]
    torch.manual_seed(0)
    assert [r["report"] for r in read] == [reworded.results(2)["report"] for _ in range(4)]
    assert len({r["report"]["findings"] for r in read}) == 4
    expected = plain.results(2)

    def finding_steps(results: dict) -> list:
        return [(s["entities"], s["regions"], s["lesion"]) for s in results["cot"] if s["lesion"] is not None]

    assert finding_steps(expected)
    for results in read:
        assert np.array_equal(results["volume"], expected["volume"]) and results["labels"] == expected["labels"]
        assert finding_steps(results) == finding_steps(expected)
        assert results["report"]["findings"] == " ".join(step["text"] for step in results["cot"])


def test_splits_share_no_patient():
    seeds, patients = set(), set()
    for split in ("train", "val", "test"):
        data = build(num_cases=500, split=split)
        infos = [data.get_data_info(i) for i in range(500)]
        seeds |= {info["case_seed"] for info in infos}
        patients |= {info["patient_id"] for info in infos}
    assert len(seeds) == len(patients) == 1500
    assert case_seed(0, "train", 0) != case_seed(1, "train", 0)


def test_longer_split_starts_with_the_cases_of_a_shorter_one():
    assert [build(num_cases=4).get_data_info(i)["case_seed"] for i in range(3)] == [
        build().get_data_info(i)["case_seed"] for i in range(3)
    ]


def test_same_cases_with_and_without_cache_and_workers():
    """More cases than a chunk, so that the workers are used."""
    count = CHUNK + 4
    plain, cached, pooled = (
        build(num_cases=count, cache=cache, num_workers=workers)
        for cache, workers in ((False, 0), (True, 0), (True, 2))
    )
    for i in range(count):
        a, *others = (d.results(i) for d in (plain, cached, pooled))
        for b in others:
            for key in ("volume", "region_map", "lesion_map", "affine"):
                np.testing.assert_array_equal(a[key], b[key])
            assert (a["report"], a["cot"], a["labels"]) == (b["report"], b["cot"], b["labels"])
    assert plain.kept is None and len(pooled.kept) == count


@pytest.mark.parametrize("first", ["", "PackCTInputs"])
def test_a_look_at_two_cases_does_not_draw_the_others(monkeypatch, first):
    drawn, draw = [], PackedCase.draw
    monkeypatch.setattr(PackedCase, "draw", lambda job: drawn.append(job) or draw(job))
    data = build(num_cases=5, pipeline=[dict(type="PackCTInputs")] if first else [])
    read = data.__getitem__ if first else data.results
    for index, count in ((4, 1), (1, 2), (4, 2), (0, 5), (2, 5), (3, 5)):
        read(index)
        assert len(drawn) == count
    assert len({job[0] for job in drawn}) == 5


def test_texts_equal_those_of_the_cases_and_draw_nothing():
    data = build()
    texts = data.texts()
    assert not len(data.kept)
    expected = []
    for i in range(3):
        results = data.results(i)
        expected += [results["report"]["impression"], *(s["text"] for s in results["cot"])]
    assert texts == expected


def test_pickling_for_loader_workers():
    data = build()
    data.results(0)
    again = pickle.loads(pickle.dumps(data))  # noqa: S301
    np.testing.assert_array_equal(again.results(0)["volume"], data.results(0)["volume"])


def test_in_place_changes_do_not_reach_the_cache():
    data = build()
    data.results(0)["region_map"][:] = 0
    assert data.results(0)["region_map"].any()
    with pytest.raises(ValueError, match="read-only"):
        data.results(0)["volume"][:] = 0


@pytest.mark.parametrize(
    "wrong,message",
    [
        (dict(num_cases=0), "num_cases is 0"),
        (dict(shape=(16, 48)), r"shape is \(16, 48\)"),
        (dict(scheme="other"), "'other'.*'thorax_abdomen_20'"),
        (dict(field="pelvis"), "'pelvis'.*chest_abdomen, any"),
    ],
)
def test_invalid_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        PhantomCT(**{"num_cases": 2, **wrong})


def test_write_phantom_round_trip(tmp_path, monkeypatch):
    """ManifestCT reads the same voxels, maps, text and geometry from the written files."""
    out = tmp_path / "phantoms"
    monkeypatch.setattr(
        sys, "argv", [str(TOOL), str(out), "--num-cases", "2", "--shape", "16", "48", "48", "--splits", "train", "val"]
    )
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert not stop.value.code
    lines = (out / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 4 and not Path(json.loads(lines[0])["volume"]).is_absolute()
    assert len(read_manifest(out / "manifest.jsonl", "val")) == 2
    pipeline = [dict(type="LoadCT")]
    read = DATASETS.build(
        dict(type="ManifestCT", ann_file=str(out / "manifest.jsonl"), split="train", pipeline=pipeline)
    )
    drawn = build(num_cases=2)
    for i in range(2):
        a, b = read[i], drawn.results(i)
        np.testing.assert_array_equal(a["volume"], b["volume"])
        np.testing.assert_array_equal(a["region_map"], b["region_map"])
        np.testing.assert_allclose(a["affine"], b["affine"], atol=1e-3)
        assert a["report"]["impression"] == b["report"]["impression"] and a["labels"] == b["labels"]
        assert [s["text"] for s in a["cot"]] == [s["text"] for s in b["cot"]]
