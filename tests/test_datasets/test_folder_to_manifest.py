"""tools/dataset_converters/folder_to_manifest.py."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ctvlm.datasets import ManifestCT, read_manifest
from ctvlm.datasets.conversion import split_patients
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


def test_multi_label_and_per_class_masks_give_same_maps(convert, case_folder):
    per_class = case_folder / "p1" / "segmentations"
    labels = read_label_map(case_folder / "p1" / "seg.nii.gz")
    whole = ManifestCT(str(case_folder / "cases.jsonl"), split="train", pipeline=[LoadCT()])[1]["region_map"]
    (case_folder / "p1" / "seg.nii.gz").unlink()
    for name, number in (("liver", 5), ("kidney_right", 2), ("kidney_left", 3)):
        write_nifti(labels.with_array((labels.array == number).astype(np.uint8)), per_class / f"{name}.nii.gz")
    out = case_folder / "out.jsonl"
    assert convert(case_folder, out, "--lesions", "lesion*", "--source", "totalsegmentator_v2", "--split", "train") == 0
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


def test_dropped_cases_are_listed_with_reason(convert, case_folder, capsys):
    broken = case_folder / "p0" / "ct.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    (case_folder / "p1" / "seg.nii.gz").unlink()
    (case_folder / "p1" / "lesion.nii.gz").unlink()
    assert convert(case_folder, case_folder / "m.jsonl", "--lesions", "lesion*") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 kept, 2 dropped" in printed
    assert str(broken) in printed
    assert "--allow-no-mask" in printed
    assert [c["case_id"] for c in read_manifest(case_folder / "m.jsonl")] == ["p2"]


def test_wrong_totalsegmentator_version_drops_case(convert, case_folder, capsys):
    labels = read_label_map(case_folder / "p0" / "seg.nii.gz")
    write_nifti(labels.with_array(np.where(labels.array == 5, 117, labels.array).astype(np.uint8)),
                case_folder / "p0" / "seg.nii.gz")  # fmt: skip
    assert convert(case_folder, case_folder / "m.jsonl", "--lesions", "lesion*", "--source", "totalsegmentator_v1") == 0
    printed = capsys.readouterr().out
    assert "117" in printed and "totalsegmentator_v1" in printed
    assert len(read_manifest(case_folder / "m.jsonl")) == 2


def test_empty_folder_and_unknown_source_write_nothing(convert, tmp_path, capsys):
    assert convert(tmp_path, tmp_path / "m.jsonl") == 1
    assert "0 cases" in capsys.readouterr().out
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
    assert convert(shared_data / "ct", out, "--lesions", "CT_mask*", "--split", "train") == 0
    dataset = ManifestCT(str(out), split="train", pipeline=[LoadCT()], allow_outside=True)
    regions = {r["case_id"]: r["region_map"] for r in map(dataset.__getitem__, range(len(dataset)))}
    assert len(regions) == 5
    assert {8, 19} == set(np.unique(regions["ts_aorta_lps"])) - {0}
    assert regions["elastix_lung"] is None
    assert len(np.unique(regions["ts_small_117"])) == 15


def flat(case_folder, count: int):
    """Folder of CTs without masks, s0 to s<count - 1>."""
    folder = case_folder / "flat"
    folder.mkdir()
    for number in range(count):
        shutil.copy(case_folder / f"p{number % 3}" / "ct.nii.gz", folder / f"s{number}.nii.gz")
    return folder


def splits(path) -> list[str]:
    return [case["split"] for case in read_manifest(path)]


def test_default_splits_are_not_empty(convert, case_folder):
    folder, out = flat(case_folder, 7), case_folder / "m.jsonl"
    for count in range(7, 1, -1):
        assert convert(folder, out, "--allow-no-mask", "--check", "files") == 0
        assert set(splits(out)) == {"train", "val"}, count
        if count > 2:
            assert convert(folder, out, "--allow-no-mask", "--check", "files", "--test-fraction", "0.2") == 0
            assert set(splits(out)) == {"train", "val", "test"}, count
        (folder / f"s{count - 1}.nii.gz").unlink()


def test_single_case_prints_remark(convert, case_folder, capsys):
    assert convert(flat(case_folder, 1), case_folder / "m.jsonl", "--allow-no-mask") == 0
    assert splits(case_folder / "m.jsonl") == ["train"]
    assert "1 patient" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("val", [0.01, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("test", [0.0, 0.01, 0.6])
@pytest.mark.parametrize("count", [2, 3, 4, 7, 50, 1000])
def test_requested_splits_are_not_empty(val, test, count):
    if val + test >= 1:
        with pytest.raises(ValueError, match=rf"{val:g} .*{test:g} "):
            split_patients(["a"], val, test)
        return
    split_of = split_patients([f"p{i}" for i in range(count)], val, test)
    counts = {name: list(split_of.values()).count(name) for name in ("train", "val", "test")}
    assert counts["train"] and counts["val"] and bool(counts["test"]) == bool(test and count > 2)
    if count == 1000:
        assert counts["val"] == round(1000 * val) and counts["test"] == round(1000 * test)


def test_patients_are_in_one_split_and_broken_cases_are_ignored(convert, case_folder):
    folder, out = flat(case_folder, 6), case_folder / "m.jsonl"
    for name in ("s0", "s1", "s2", "s3"):
        (folder / f"{name}.nii.gz").write_bytes(b"broken")
    assert convert(folder, out, "--allow-no-mask") == 0
    assert sorted(splits(out)) == ["train", "val"]
    assert convert(folder, out, "--allow-no-mask", "--patient-regex", "s", "--check", "files") == 0
    assert splits(out) == ["train"] * 6


def test_train_split_alone_prints_remark(convert, case_folder, capsys):
    for split, expected in (("train", True), ("test", False)):
        assert convert(case_folder, case_folder / "m.jsonl", "--split", split) == 0
        assert ("'val'" in capsys.readouterr().out) == expected


def test_fractions_and_split_exclude_each_other(convert, case_folder):
    assert convert(case_folder, case_folder / "m.jsonl", "--val-fraction", "1.5") == 2
    with pytest.raises(SystemExit):
        convert(case_folder, case_folder / "m.jsonl", "--val-fraction", "0.5", "--split", "train")


def write_reports(path, rows: list[dict]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("name", ["s{}", "s{}.nii.gz", "S{}.NII.GZ", "/data/other/flat/s{}.nii.gz", " s{} "])
def test_reports_are_joined_to_cts_without_masks(convert, case_folder, capsys, name):
    folder, table, out = flat(case_folder, 3), case_folder / "reports.csv", case_folder / "m.jsonl"
    rows = [
        dict(No=i, File=name.format(i), Findings_EN=f"Cyst {i} in the liver.", Impressions_EN=f"Cyst {i}.")
        for i in (2, 0, 9)
    ]
    write_reports(table, rows)
    assert convert(folder, out, "--reports", table) == 0
    printed = " ".join(capsys.readouterr().out.split())
    words = ("'File'", "'Findings_EN'", "'Impressions_EN'", "2 of 3", name.format(9), "2 kept, 1 dropped")
    for word in words:
        assert word.strip() in printed, word
    cases = {case["case_id"]: case["report"] for case in read_manifest(out)}
    assert cases == {f"s{i}": dict(findings=f"Cyst {i} in the liver.", impression=f"Cyst {i}.") for i in (0, 2)}


def test_report_columns_and_patient_regex(convert, case_folder):
    folder, table, out = flat(case_folder, 3), case_folder / "reports.csv", case_folder / "m.jsonl"
    text = "FINDINGS: A cyst in the liver. IMPRESSION: Liver cyst."
    write_reports(table, [dict(a=str(i), b=f"s{i}", c="s0", notes=text) for i in range(3)])
    assert convert(folder, out, "--reports", table) == 0
    assert read_manifest(out)[1]["report"] == dict(findings="A cyst in the liver.", impression="Liver cyst.")
    assert convert(folder, out, "--reports", table, "--id-column", "a", "--patient-regex", r"s(\d)") == 0
    assert len(read_manifest(out)) == 3
    assert convert(folder, out, "--reports", table, "--findings-column", "b", "--impression-column", "notes") == 0
    assert read_manifest(out)[2]["report"] == dict(findings="s2", impression=text)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([dict(id="x1", report="A cyst in the liver, 3 cm.")], (), "--id-column"),
        ([dict(id="s0", report="A cyst in the liver, 3 cm.")], ("--id-column", "name"), "'name'"),
        ([dict(id="s0", report="A cyst."), dict(id="s0", report="No cyst.")], (), "rows 2 and 3"),
        ([dict(id="s0", age="61")], (), "--findings-column"),
    ],
)
def test_table_without_matching_rows_raises(convert, case_folder, capsys, rows, options, message):
    folder, table, out = flat(case_folder, 2), case_folder / "reports.csv", case_folder / "m.jsonl"
    write_reports(table, rows)
    assert convert(folder, out, "--reports", table, *options) == 1
    assert message in " ".join(capsys.readouterr().out.split())
    assert not out.exists()


def test_masks_of_unknown_class_are_reported(convert, case_folder, capsys):
    out = case_folder / "m.jsonl"
    for number in range(3):
        (case_folder / f"p{number}" / "lesion.nii.gz").rename(case_folder / f"p{number}" / "big_tumor.nii.gz")
    assert convert(case_folder, out) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "big_tumor.nii.gz (3x)" in printed and "--lesions '*tumor*'" in printed
    assert convert(case_folder, out, "--lesions", "*tumor*") == 0
    assert "--lesions" not in capsys.readouterr().out
    assert all(case["lesion_masks"] for case in read_manifest(out))


def test_lesions_of_flat_folder_are_assigned_to_cts(convert, case_folder):
    folder, out = case_folder / "flat", case_folder / "m.jsonl"
    folder.mkdir()
    for number in range(2):
        for kind, name in (("ct", f"s{number}_ct"), ("seg", f"s{number}_seg"), ("lesion", f"s{number}_tumor")):
            shutil.copy(case_folder / f"p{number}" / f"{kind}.nii.gz", folder / f"{name}.nii.gz")
    assert convert(folder, out, "--lesions", "*tumor*") == 0
    cases = read_manifest(out)
    assert [c["case_id"] for c in cases] == ["s0_ct", "s1_ct"]
    for number, case in enumerate(cases):
        assert case["region_map"]["path"].endswith(f"s{number}_seg.nii.gz")
        assert [m["path"].rpartition("/")[2] for m in case["lesion_masks"]] == [f"s{number}_tumor.nii.gz"]
