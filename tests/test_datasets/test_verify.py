"""Every kind of broken case is found and named, and a good data set is called good."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from ctvlm.datasets import read_manifest
from ctvlm.datasets.preprocess import Recipe, manifest_line, preprocess_case, read_record
from ctvlm.datasets.verify import verify_case
from ctvlm.volume import CTVolume, read_ct, read_label_map, write_nifti


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).resolve().parents[2] / "tools" / "misc" / "verify_dataset.py"
    spec = importlib.util.spec_from_file_location("verify_tool", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def found(folder: Path, number: int) -> dict[str, str]:
    """Kind of problem to its note, of one case."""
    return {p.kind: p.note for p in verify_case(read_manifest(folder / "cases.jsonl")[number])}


def edit(folder: Path, number: int, **changes) -> None:
    lines = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    lines[number].update(changes)
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_a_good_case_has_no_problem(case_folder):
    assert found(case_folder, 1) == {}


def test_a_truncated_file(case_folder):
    path = case_folder / "p1" / "ct.nii.gz"
    path.write_bytes(path.read_bytes()[:400])
    (problem,) = verify_case(read_manifest(case_folder / "cases.jsonl")[1])
    assert problem.kind == "unreadable or not HU" and problem.level == "error" and problem.file == str(path)


def test_a_missing_file(case_folder):
    (case_folder / "p1" / "seg.nii.gz").unlink()
    (problem,) = verify_case(read_manifest(case_folder / "cases.jsonl")[1])
    assert problem.kind == "missing file" and problem.file == str(case_folder / "p1" / "seg.nii.gz")


def test_a_mask_of_another_scan(case_folder):
    path = case_folder / "p1" / "seg.nii.gz"
    mask = read_label_map(path)
    affine = mask.affine.copy()
    affine[2, 3] += 5000
    write_nifti(CTVolume(mask.array, affine), path)
    assert set(found(case_folder, 1)) == {"mask elsewhere"}


def test_labels_of_another_source(case_folder):
    edit(case_folder, 1, region_map=dict(path="p1/seg.nii.gz", source="totalsegmentator_v9"))
    assert set(found(case_folder, 1)) == {"cannot be opened"}
    path = case_folder / "p1" / "seg.nii.gz"
    mask = read_label_map(path)
    write_nifti(mask.with_array(np.where(mask.array == 5, 200, mask.array).astype(np.uint8)), path)
    edit(case_folder, 1, region_map=dict(path="p1/seg.nii.gz", source="totalsegmentator_v2"))
    assert set(found(case_folder, 1)) == {"unknown labels"}


def test_a_volume_that_is_not_hu(case_folder):
    path = case_folder / "p1" / "ct.nii.gz"
    ct = read_ct(path)
    write_nifti(ct.with_array((ct.array / 1000).astype(np.float32)), path)
    assert "rescale" in found(case_folder, 1)["unreadable or not HU"]


def test_an_empty_lesion_that_a_step_points_at(case_folder):
    path = case_folder / "p1" / "lesion.nii.gz"
    mask = read_label_map(path)
    write_nifti(mask.with_array(np.zeros_like(mask.array)), path)
    assert set(found(case_folder, 1)) == {"mask empty or cut off", "lesion without mask"}


def test_names_and_texts(case_folder):
    edit(case_folder, 1, cot=[dict(text="Fine.", regions=["left_foot"]), dict(text=" ")])
    assert set(found(case_folder, 1)) == {"unknown region name", "empty text"}
    assert set(found(case_folder, 0)) == {"no text"}
    edit(case_folder, 1, cot=[dict(text="A large aorta beside the trachea.")], report={})
    assert "aorta" in found(case_folder, 1)["text of another scan?"]


def test_a_stored_file_that_rotted(case_folder, tmp_path):
    pytest.importorskip("blosc2", reason="the store needs Blosc2: pip install 'ctvlm[store]'")
    case, out = read_manifest(case_folder / "cases.jsonl")[1], str(tmp_path / "store")
    preprocess_case(case, out, Recipe(shape=(8, 16, 16)))
    stored = manifest_line(out, read_record(out, "p1"))
    stored["region_map"] = {**stored["region_map"]}
    assert verify_case(stored) == []
    path = Path(stored["volume"]["path"])
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    (problem, *_) = verify_case(stored)
    assert problem.kind == "checksum" and problem.file == str(path)
    (path.parent / "case.json").unlink()
    assert "not finished" in verify_case(stored)[0].note


def test_the_table_and_the_exit_code(tool, case_folder, capsys, tmp_path):
    (case_folder / "p1" / "seg.nii.gz").unlink()
    edit(case_folder, 0, report=dict(impression="Normal liver."))
    edit(case_folder, 2, report=dict(impression="Normal liver."))
    assert tool.main([str(case_folder / "cases.jsonl"), "--json", str(tmp_path / "problems.json")]) == 1
    out = capsys.readouterr().out
    assert "1 problem in 1 of 3 cases" in out and "missing file (1)" in out and "p1/seg.nii.gz" in out
    assert json.loads((tmp_path / "problems.json").read_text())[0]["case_id"] == "p1"
    assert tool.main([str(case_folder / "cases.jsonl"), "--split", "val"]) == 0
    assert "no problem found" in capsys.readouterr().out


def test_a_manifest_that_cannot_be_used(tool, case_folder, capsys):
    (case_folder / "cases.jsonl").write_text("{}")
    assert tool.main([str(case_folder / "cases.jsonl")]) == 1
    assert "case_id" in capsys.readouterr().out
