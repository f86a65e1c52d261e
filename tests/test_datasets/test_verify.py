"""verify_case reports every kind of problem, and none for valid cases."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from ctvlm.datasets import read_manifest
from ctvlm.datasets.preprocess import Recipe, manifest_line, preprocess_case, read_record
from ctvlm.datasets.training_text import FINDINGS, GIVEN_STEPS, NO_TEXT
from ctvlm.datasets.transforms import LoadCT
from ctvlm.datasets.verify import verify_case
from ctvlm.volume import CTVolume, read_ct, read_label_map, write_nifti
from tests.test_datasets import converter_tools


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).resolve().parents[2] / "tools" / "misc" / "verify_dataset.py"
    spec = importlib.util.spec_from_file_location("verify_tool", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def problems_of(folder: Path, number: int) -> dict[str, str]:
    """Notes of the problems of one case by kind."""
    return {p.kind: p.note for p in verify_case(read_manifest(folder / "cases.jsonl")[number])}


def edit(folder: Path, number: int, **changes) -> None:
    lines = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    lines[number].update(changes)
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_valid_case(case_folder):
    assert problems_of(case_folder, 1) == {}


def test_truncated_file(case_folder):
    path = case_folder / "p1" / "ct.nii.gz"
    path.write_bytes(path.read_bytes()[:400])
    (problem,) = verify_case(read_manifest(case_folder / "cases.jsonl")[1])
    assert problem.kind == "unreadable or not HU" and problem.level == "error" and problem.file == str(path)


def test_missing_file(case_folder):
    (case_folder / "p1" / "seg.nii.gz").unlink()
    (problem,) = verify_case(read_manifest(case_folder / "cases.jsonl")[1])
    assert problem.kind == "missing file" and problem.file == str(case_folder / "p1" / "seg.nii.gz")


def test_mask_of_another_scan(case_folder):
    path = case_folder / "p1" / "seg.nii.gz"
    mask = read_label_map(path)
    affine = mask.affine.copy()
    affine[2, 3] += 5000
    write_nifti(CTVolume(mask.array, affine), path)
    assert set(problems_of(case_folder, 1)) == {"mask outside CT"}


def test_labels_of_another_source(case_folder):
    edit(case_folder, 1, region_map=dict(path="p1/seg.nii.gz", source="totalsegmentator_v9"))
    assert set(problems_of(case_folder, 1)) == {"unknown labels"}
    path = case_folder / "p1" / "seg.nii.gz"
    mask = read_label_map(path)
    write_nifti(mask.with_array(np.where(mask.array == 5, 200, mask.array).astype(np.uint8)), path)
    edit(case_folder, 1, region_map=dict(path="p1/seg.nii.gz", source="totalsegmentator_v2"))
    assert set(problems_of(case_folder, 1)) == {"unknown labels"}


def test_volume_without_hu(case_folder):
    path = case_folder / "p1" / "ct.nii.gz"
    ct = read_ct(path)
    write_nifti(ct.with_array((ct.array / 1000).astype(np.float32)), path)
    assert "rescale" in problems_of(case_folder, 1)["unreadable or not HU"]


def test_step_with_empty_lesion(case_folder):
    path = case_folder / "p1" / "lesion.nii.gz"
    mask = read_label_map(path)
    write_nifti(mask.with_array(np.zeros_like(mask.array)), path)
    assert set(problems_of(case_folder, 1)) == {"doubtful mask", "lesion without mask"}


def test_region_names_and_texts(case_folder):
    edit(case_folder, 1, cot=[dict(text="Fine.", regions=["left_foot"]), dict(text=" ")])
    assert set(problems_of(case_folder, 1)) == {"unknown region name", "empty text"}
    assert problems_of(case_folder, 0) == {}, "cases with masks need no text"
    edit(case_folder, 0, region_map=None, lesion_masks=[])
    assert set(problems_of(case_folder, 0)) == {"no text"}
    edit(case_folder, 0, report=dict(findings="A cyst in the liver."))
    assert problems_of(case_folder, 0) == {}
    edit(case_folder, 1, cot=[dict(text="A large aorta beside the trachea.")], report={})
    assert "aorta" in problems_of(case_folder, 1)["text does not match region map"]


def test_corrupt_stored_file(case_folder, tmp_path):
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
    assert verify_case(stored)[0].file == str(path.parent / "case.json")


def test_table_and_exit_code(tool, case_folder, capsys, tmp_path):
    (case_folder / "p1" / "seg.nii.gz").unlink()
    assert tool.main([str(case_folder / "cases.jsonl"), "--out", str(tmp_path / "problems.json")]) == 1
    out = capsys.readouterr().out
    assert "1 of 3" in out and "missing file (1)" in out and "p1/seg.nii.gz" in out
    assert json.loads((tmp_path / "problems.json").read_text())[0]["case_id"] == "p1"
    assert tool.main([str(case_folder / "cases.jsonl"), "--split", "val"]) == 0
    assert "1 cases" in capsys.readouterr().out


def test_invalid_manifest(tool, case_folder, capsys):
    (case_folder / "cases.jsonl").write_text("{}")
    assert tool.main([str(case_folder / "cases.jsonl")]) == 1
    assert "case_id" in capsys.readouterr().out


def test_empty_class_files_are_one_note_and_no_problem(shared_data, tmp_path, capsys):
    """TotalSegmentator writes a file for every class; most of them are empty in a given scan."""
    real = shared_data / "ct" / "ts_small_117"
    labels = read_label_map(real / "example_seg.nii.gz")
    classes = json.loads((shared_data / "labels" / "totalsegmentator_total.json").read_text())
    folder = tmp_path / "data" / "p1"
    folder.mkdir(parents=True)
    shutil.copy(real / "example_ct_sm.nii.gz", folder / "ct.nii.gz")
    for number, name in classes.items():
        mask = labels.with_array((labels.array == int(number)).astype(np.uint8))
        write_nifti(mask, folder / "segmentations" / f"{name}.nii.gz")
    assert len(classes) == 117
    out = tmp_path / "data" / "m.jsonl"
    assert converter_tools.tool("folder_to_manifest")(tmp_path / "data", out, "--split", "train") == 0
    printed = capsys.readouterr().out
    assert printed.count("of 117") == 1
    (case,) = read_manifest(out)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = LoadCT()(case)
    assert len(np.unique(loaded["region_map"])) == 15 and len(loaded["empty_masks"]) > 20
    assert verify_case(case) == []


def test_one_warning_per_type_of_problem(case_folder):
    """Several masks with the same problem give one warning."""
    labels = read_label_map(case_folder / "p1" / "seg.nii.gz")
    names = {"liver": 5, "kidney_right": 2, "kidney_left": 3, "spleen": 1, "stomach": 6}
    files = {name: f"p1/classes/{name}.nii.gz" for name in names}

    def write(mask) -> dict[str, str]:
        for name, path in files.items():
            write_nifti(mask(names[name]), case_folder / path)
        edit(case_folder, 1, region_map=dict(files=files), lesion_masks=[], cot=[])
        problems = verify_case(read_manifest(case_folder / "cases.jsonl")[1])
        notes = {problem.kind: problem.note for problem in problems}
        assert len(notes) == len(problems), problems
        return notes

    empty = write(lambda number: labels.with_array(np.zeros_like(labels.array)))
    assert "5 masks" in empty["doubtful mask"]
    shifted = labels.affine.copy()
    shifted[2, 3] -= 36
    wrong = np.zeros_like(labels.array)
    wrong[:] = 1
    cut = write(lambda number: CTVolume(wrong, shifted))
    assert "5 masks" in cut["doubtful mask"] and "25%" in cut["doubtful mask"]
    hot = write(lambda number: labels.with_array((labels.array == 5).astype(np.uint8) * (number == 5)))
    assert hot == {}
    path = case_folder / "p1" / "ct.nii.gz"
    ct = read_ct(path)
    body = {5: slice(1, 6), 1: slice(6, 11)}
    half = {number: np.zeros_like(labels.array) for number in names.values()}
    for number, levels in body.items():
        half[number][levels, 2:18, 2:22] = 1
    write_nifti(ct.with_array(np.where(half[5] + half[1] > 0, 900, ct.array)), path)
    hot = write(lambda number: labels.with_array(half[number]))
    assert "'liver'" in hot["implausible region"] and "'spleen'" in hot["implausible region"]


def test_other_warnings_are_listed(case_folder, monkeypatch):
    def doubtful(self, results):
        warnings.warn("sform and qform disagree", stacklevel=1)
        return loads(self, results)

    loads = LoadCT.__call__
    monkeypatch.setattr(LoadCT, "__call__", doubtful)
    assert "sform" in problems_of(case_folder, 1)["doubtful file"]


def test_text_sources_are_shown(tool, case_folder, capsys):
    edit(case_folder, 0, report=dict(findings="右肾囊肿。肝脏正常。"))
    tool.main([str(case_folder / "cases.jsonl")])
    out = " ".join(capsys.readouterr().out.split())
    assert f"{FINDINGS} │ 1 │ 0 │ 2 │ 0" in out
    assert f"{GIVEN_STEPS} │ 1 │ 1 │ 1 │ 1" in out
    assert f"{NO_TEXT} │ 1 │ 0 │ 0 │ 0" in out
    assert "2 steps" in out
