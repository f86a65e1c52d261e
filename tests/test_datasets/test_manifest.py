"""A manifest is right, or one message says which line is wrong and why."""

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


def test_paths_are_relative_to_the_manifest_wherever_it_is_read_from(tmp_path, monkeypatch):
    write_manifest([{**GOOD, "volume": str(tmp_path / "x" / "a.nii.gz")}], tmp_path / "lists" / "m.jsonl")
    stored = json.loads((tmp_path / "lists" / "m.jsonl").read_text())
    assert stored["volume"] == os.path.join("..", "x", "a.nii.gz")
    monkeypatch.chdir(tmp_path)
    (case,) = read_manifest("lists/m.jsonl")
    assert case["volume"] == {"path": str(tmp_path / "x" / "a.nii.gz")}


def test_every_form_of_every_key_survives_writing_and_reading(tmp_path):
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
    ("change", "message"),
    [
        ({"volume": None}, "volume is null"),
        ({"volume": ""}, "path of volume is empty"),
        ({"volume": {"path": "a", "window": 1}}, "unknown key 'window'"),
        ({"case_id": 7}, "case_id is 7; expected a text"),
        ({"lables": {}}, "unknown key 'lables'"),
        ({"labels": {"Cyst": 2}}, "labels.Cyst is 2"),
        ({"labels": {"Cyst": "yes"}}, "labels.Cyst is 'yes'"),
        ({"report": "normal"}, 'report is "normal"'),
        ({"cot": [{"step": 1}]}, "cot step 1: text is null"),
        ({"cot": [{"text": "a", "regions": "liver"}]}, "cot step 1: regions"),
        ({"region_map": {"source": "x"}}, "expected a path, or an object with 'path' or 'files'"),
        ({"lesion_masks": [{"path": "a", "id": 0}]}, "expected 1..255"),
    ],
)
def test_wrong_values_are_named_with_their_line(change, message, tmp_path):
    with pytest.raises(ManifestError) as caught:
        read_manifest(lines(tmp_path, GOOD, "", {**GOOD, "case_id": "b", **change}))
    assert message in str(caught.value)
    assert "m.jsonl, line 3" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no case"),
        (["{"], "line 1: not JSON"),
        (["[1]"], "line 1: the line is"),
        ([{k: v for k, v in GOOD.items() if k != "split"}], "key 'split' is missing"),
        ([GOOD, GOOD], "case 'a' is there twice"),
        ([GOOD, {**GOOD, "case_id": "b", "split": "val"}], "patient 'p' is in the splits 'train' and 'val'"),
    ],
)
def test_wrong_manifests_are_refused(content, message, tmp_path):
    with pytest.raises(ManifestError, match=message):
        read_manifest(lines(tmp_path, *content))


def test_missing_split_lists_those_there_are(tmp_path):
    with pytest.raises(ManifestError, match=r"no case in split 'test'; its splits are \{'train': 1\}"):
        read_manifest(lines(tmp_path, GOOD), split="test")


def test_missing_manifest_and_binary_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(tmp_path / "b.jsonl")


def test_nothing_is_written_when_a_case_is_wrong(tmp_path):
    for cases in ([], [GOOD, GOOD], [{**GOOD, "volume": 3}]):
        with pytest.raises(ManifestError):
            write_manifest(cases, tmp_path / "m.jsonl")
    assert list(tmp_path.iterdir()) == []
