"""Reading and writing of manifests; errors contain the file, the line and the key."""

from __future__ import annotations

import json
import os

import pytest

from ctvlm.datasets import ManifestError, read_manifest, write_manifest

GOOD = dict(case_id="a", patient_id="p", split="train", volume="ct/a.nii.gz")


def lines(tmp_path, *cases):
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(c if isinstance(c, str) else json.dumps(c) for c in cases))
    return path


def test_paths_are_relative_to_manifest(tmp_path, monkeypatch):
    write_manifest([{**GOOD, "volume": str(tmp_path / "x" / "a.nii.gz")}], tmp_path / "lists" / "m.jsonl")
    stored = json.loads((tmp_path / "lists" / "m.jsonl").read_text())
    assert stored["volume"] == os.path.join("..", "x", "a.nii.gz")
    monkeypatch.chdir(tmp_path)
    (case,) = read_manifest("lists/m.jsonl", allow_outside=True)
    assert case["volume"] == {"path": str(tmp_path / "x" / "a.nii.gz")}


def test_all_keys_are_written_and_read(tmp_path):
    full = {
        **GOOD,
        "volume": {"path": "a.nii.gz", "rescale": [1, -1024]},
        "region_map": {"files": {"aorta": "s/aorta.nii.gz"}},
        "lesion_masks": ["l.nii.gz", {"path": "m.nii.gz", "id": 3, "name": "nodule"}],
        "report": {"findings": "F", "impression": "I"},
        "cot": [{"text": "T", "regions": ["liver"], "lesion": 3}],
        "labels": {"Nodule": 1, "Cyst": 0, "Stone": None},
        "source": "test",
        "extra": {"anything": [1]},
    }
    write_manifest([full], tmp_path / "m.jsonl")
    (case,) = read_manifest(tmp_path / "m.jsonl", split="train")
    assert case["volume"]["rescale"] == [1, -1024]
    assert case["region_map"]["files"] == {"aorta": str(tmp_path / "s" / "aorta.nii.gz")}
    assert [m["id"] for m in case["lesion_masks"]] == [None, 3]
    assert case["cot"] == [dict(step=1, text="T", regions=["liver"], entities=[], lesion=3)]
    assert case["labels"] == full["labels"]
    assert case["extra"] == full["extra"]
    write_manifest([case], tmp_path / "again.jsonl")
    assert read_manifest(tmp_path / "again.jsonl") == [case]


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"volume": None}, ["volume", "null"]),
        ({"volume": ""}, ["path of volume"]),
        ({"volume": {"path": "a", "window": 1}}, ["volume", "'window'"]),
        ({"case_id": 7}, ["case_id", "7"]),
        ({"lables": {}}, ["'lables'"]),
        ({"labels": {"Cyst": 2}}, ["labels.Cyst", "2"]),
        ({"labels": {"Cyst": "yes"}}, ["labels.Cyst", "'yes'"]),
        ({"report": "normal"}, ["report", '"normal"']),
        ({"cot": [{"step": 1}]}, ["cot step 1: text", "null"]),
        ({"cot": [{"text": "a", "regions": "liver"}]}, ["cot step 1: regions"]),
        ({"cot": [{"text": "a", "stage": "think"}]}, ["cot step 1: stage", "'think'", "observation, reason, answer"]),
        ({"cot": [{"text": "a", "stage": 1}]}, ["cot step 1: stage", "found 1", "observation, reason, answer"]),
        ({"region_map": {"source": "x"}}, ["region_map", "'source'"]),
        ({"lesion_masks": [{"path": "a", "id": 0}]}, ["lesion id", "1..255"]),
    ],
)
def test_invalid_value_raises_with_line(change, facts, tmp_path):
    with pytest.raises(ManifestError) as caught:
        read_manifest(lines(tmp_path, GOOD, "", {**GOOD, "case_id": "b", **change}))
    assert all(fact in str(caught.value) for fact in facts)
    assert "m.jsonl, line 3" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "0 cases"),
        (["{"], "line 1"),
        (["[1]"], "line 1"),
        ([{k: v for k, v in GOOD.items() if k != "split"}], "'split'"),
        ([GOOD, GOOD], "case 'a'"),
        ([GOOD, {**GOOD, "case_id": "b", "split": "val"}], "patient 'p'.*'train'.*'val'"),
    ],
)
def test_invalid_manifest_raises(content, message, tmp_path):
    with pytest.raises(ManifestError, match=message):
        read_manifest(lines(tmp_path, *content))


def test_missing_split_lists_available_splits(tmp_path):
    with pytest.raises(ManifestError, match=r"'test'.*\{'train': 1\}"):
        read_manifest(lines(tmp_path, GOOD), split="test")


def test_missing_and_binary_manifest_raise(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match=r"b\.jsonl.*UTF-8"):
        read_manifest(tmp_path / "b.jsonl")


def test_invalid_cases_are_not_written(tmp_path):
    for cases in ([], [GOOD, GOOD], [{**GOOD, "volume": 3}]):
        with pytest.raises(ManifestError):
            write_manifest(cases, tmp_path / "m.jsonl")
    assert list(tmp_path.iterdir()) == []
