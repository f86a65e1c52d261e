"""Every kind of broken case is found and named, and a good data set is called good."""

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
    assert found(case_folder, 0) == {}, "masks without text are measured"
    edit(case_folder, 0, region_map=None, lesion_masks=[])
    assert set(found(case_folder, 0)) == {"no text"}
    edit(case_folder, 0, report=dict(findings="A cyst in the liver."))
    assert found(case_folder, 0) == {}
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


def test_a_file_for_every_class_is_one_line_and_no_problem(shared_data, tmp_path, capsys):
    """TotalSegmentator writes all classes of its list; most mark nothing in a given scan."""
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
    assert printed.count("no voxel") == 1 and printed.count("of 117") == 1
    (case,) = read_manifest(out)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = LoadCT()(case)
    assert len(np.unique(loaded["region_map"])) == 15 and len(loaded["empty_masks"]) > 20
    assert verify_case(case) == []


def test_each_kind_of_doubt_is_one_warning(case_folder):
    """All masks empty, all masks mostly outside, and other ids than declared: one line each, not one per mask."""
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
    assert "5 masks" in empty["mask empty or cut off"]
    shifted = labels.affine.copy()
    shifted[2, 3] -= 36
    wrong = np.zeros_like(labels.array)
    wrong[:] = 1
    cut = write(lambda number: CTVolume(wrong, shifted))
    assert "5 masks" in cut["mask empty or cut off"] and "25%" in cut["mask empty or cut off"]
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


def test_other_warnings_about_a_case_are_listed(case_folder, monkeypatch):
    def doubtful(self, results):
        warnings.warn("sform and qform disagree", stacklevel=1)
        return loads(self, results)

    loads = LoadCT.__call__
    monkeypatch.setattr(LoadCT, "__call__", doubtful)
    assert "sform" in found(case_folder, 1)["doubtful file"]


def test_the_text_that_each_group_is_trained_on_is_shown(tool, case_folder, capsys):
    edit(case_folder, 0, report=dict(findings="右肾囊肿。肝脏正常。"))
    tool.main([str(case_folder / "cases.jsonl")])
    out = " ".join(capsys.readouterr().out.split())
    assert "sentences of its findings │ 1 │ 0 │ 2 │ 0" in out
    assert "its own steps (cot) │ 1 │ 1 │ 1 │ 1" in out
    assert "MeasuredReasoning │ 1 │ 0 │ 0 │ 0" in out
    assert "2 steps are not in Latin script" in out
