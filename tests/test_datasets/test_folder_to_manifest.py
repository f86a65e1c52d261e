"""One command from a folder of CTs to a manifest; the table says what was dropped and why."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ctvlm.datasets import ManifestCT, read_manifest
from ctvlm.datasets.transforms import LoadCT
from ctvlm.volume import read_label_map, write_nifti


@pytest.fixture
def convert(repo_root, monkeypatch):
    path = repo_root / "tools" / "dataset_converters" / "folder_to_manifest.py"
    spec = importlib.util.spec_from_file_location("folder_to_manifest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: module.main([str(a) for a in args])


def test_multi_label_and_per_class_folders_give_the_same_maps(convert, case_folder):
    per_class = case_folder / "p1" / "segmentations"
    labels = read_label_map(case_folder / "p1" / "seg.nii.gz")
    whole = ManifestCT(str(case_folder / "cases.jsonl"), split="train", pipeline=[LoadCT()])[1]["region_map"]
    (case_folder / "p1" / "seg.nii.gz").unlink()
    for name, number in (("liver", 5), ("kidney_right", 2), ("kidney_left", 3)):
        write_nifti(labels.with_array((labels.array == number).astype(np.uint8)), per_class / f"{name}.nii.gz")
    out = case_folder / "out.jsonl"
    assert convert(case_folder, out, "--lesions", "lesion*", "--source", "totalsegmentator_v2") == 0
    assert [c["case_id"] for c in read_manifest(out)] == ["p0", "p1", "p2"]
    dataset = ManifestCT(str(out), split="train", pipeline=[LoadCT()])
    np.testing.assert_array_equal(dataset[1]["region_map"], whole)
    assert dataset[1]["lesion_map"].max() == 1


def test_flat_folder_of_pairs_on_two_workers(repo_root, case_folder):
    flat = case_folder / "flat"
    flat.mkdir()
    for number in range(3):
        for kind, name in (("ct", f"s{number}.nii.gz"), ("seg", f"s{number}_seg.nii.gz")):
            shutil.copy(case_folder / f"p{number}" / f"{kind}.nii.gz", flat / name)
    tool = repo_root / "tools" / "dataset_converters" / "folder_to_manifest.py"
    options = ["--patient-regex", r"s(\d)", "--workers", "2"]
    subprocess.run([sys.executable, tool, flat, flat / "m.jsonl", *options], check=True)
    cases = read_manifest(flat / "m.jsonl")
    assert [(c["case_id"], c["patient_id"]) for c in cases] == [("s0", "0"), ("s1", "1"), ("s2", "2")]
    assert 12 in ManifestCT(str(flat / "m.jsonl"), pipeline=[LoadCT()])[0]["region_map"]


def test_dropped_cases_are_listed_with_the_reason(convert, case_folder, capsys):
    broken = case_folder / "p0" / "ct.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    (case_folder / "p1" / "seg.nii.gz").unlink()
    (case_folder / "p1" / "lesion.nii.gz").unlink()
    assert convert(case_folder, case_folder / "m.jsonl", "--lesions", "lesion*") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 kept, 2 dropped" in printed
    assert "cannot be read" in printed
    assert "no mask beside the CT" in printed
    assert [c["case_id"] for c in read_manifest(case_folder / "m.jsonl")] == ["p2"]


def test_wrong_version_drops_the_case(convert, case_folder, capsys):
    labels = read_label_map(case_folder / "p0" / "seg.nii.gz")
    write_nifti(labels.with_array(np.where(labels.array == 5, 117, labels.array).astype(np.uint8)),
                case_folder / "p0" / "seg.nii.gz")  # fmt: skip
    assert convert(case_folder, case_folder / "m.jsonl", "--lesions", "lesion*", "--source", "totalsegmentator_v1") == 0
    assert "not in 'totalsegmentator_v1'" in " ".join(capsys.readouterr().out.split())
    assert len(read_manifest(case_folder / "m.jsonl")) == 2


def test_zero_matches_and_unknown_source_write_nothing(convert, tmp_path, capsys):
    assert convert(tmp_path, tmp_path / "m.jsonl") == 1
    assert "nothing matched" in capsys.readouterr().out
    assert convert(tmp_path, tmp_path / "m.jsonl", "--source", "v7") == 2
    assert convert(tmp_path / "gone", tmp_path / "m.jsonl") == 2
    assert list(tmp_path.iterdir()) == []


def test_validation_split_is_by_patient_and_stable(convert, case_folder):
    out = case_folder / "m.jsonl"
    splits = []
    for _ in range(2):
        assert convert(case_folder, out, "--lesions", "lesion*", "--val-fraction", "0.5") == 0
        splits.append([c["split"] for c in read_manifest(out)])
    assert splits[0] == splits[1]


def test_real_ct_folder_in_one_command(convert, shared_data, tmp_path):
    out = tmp_path / "real.jsonl"
    assert convert(shared_data / "ct", out, "--lesions", "CT_mask*") == 0
    dataset = ManifestCT(str(out), split="train", pipeline=[LoadCT()])
    regions = {r["case_id"]: r["region_map"] for r in map(dataset.__getitem__, range(len(dataset)))}
    assert len(regions) == 5
    assert {8, 19} == set(np.unique(regions["ts_aorta_lps"])) - {0}
    assert regions["elastix_lung"] is None
    assert len(np.unique(regions["ts_small_117"])) == 15
