"""CT-RATE converter on phantoms in the layout of CT-RATE, with real tables if available."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from ctvlm.datasets import ManifestCT
from ctvlm.datasets.conversion.ct_rate import CTRate, ct_rate_cases
from ctvlm.datasets.conversion.ct_rate_files import KNOWN_BAD, spacing_of
from ctvlm.datasets.conversion.ct_rate_scans import VolumeFacts, evaluation_sets, shows_chest
from ctvlm.datasets.conversion.tables import read_csv
from ctvlm.datasets.conversion.text import clean
from ctvlm.datasets.manifest import ManifestError
from ctvlm.datasets.transforms import LoadCT
from ctvlm.phantom.ct_rate_layout import METADATA, write_ct_rate
from ctvlm.volume import CTReadError, read_ct
from tests.test_datasets.converter_tools import phantoms, read_manifest, small_ct_rate, tool

convert = tool("ct_rate_to_manifest")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("ct_rate")
    return root, small_ct_rate(root)


@pytest.fixture
def own_tree(tree, tmp_path, monkeypatch):
    """Copy of the tree that a test may change."""
    monkeypatch.setenv("COLUMNS", "250")
    return shutil.copytree(tree[0] / "dataset", tmp_path / "ct" / "dataset")


def printed(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_both_releases_give_same_hu_with_real_tables(shared_data, tmp_path, monkeypatch):
    tables = shared_data / "text" / "ct_rate"
    cases = phantoms(3)
    names = list(write_ct_rate(cases, 3, tmp_path, tables))
    manifests = {}
    for release in ("v1", "v2"):
        out = tmp_path / f"{release}.jsonl"
        assert convert(tmp_path, out, "--release", release, "--workers", 1) == 0
        manifests[release] = read_manifest(out, split="test")
    assert [c["case_id"] for c in manifests["v1"]] == [c["case_id"] for c in manifests["v2"]] == names
    with open(tables / "validation_reports.csv", encoding="utf-8", newline="") as file:
        reports = {row["VolumeName"].rsplit("_", 1)[0]: row for row in csv.DictReader(file)}
    assert len(reports) == 240 == len({c["extra"]["scan"] for c in manifests["v1"]})
    intercepts = {c["volume"]["rescale"][1] for c in manifests["v1"]}
    assert intercepts == {-1024, -8192}
    for number, (one, two) in enumerate(zip(manifests["v1"], manifests["v2"])):
        row = reports[one["extra"]["scan"]]
        assert one["report"].get("findings", "") == clean(row["Findings_EN"])
        assert one["report"].get("impression", "") == clean(row["Impressions_EN"])
        assert one["cot"] == two["cot"] and len(one["labels"]) == 18
        if number % 40:
            continue
        first, second = LoadCT()(one), LoadCT()(two)
        np.testing.assert_array_equal(first["volume"], second["volume"])
        np.testing.assert_array_equal(first["region_map"], second["region_map"])
        np.testing.assert_allclose(first["affine"], second["affine"], atol=1e-3)
        assert any(np.array_equal(first["volume"], c["volume"]) for c in cases)
        assert any(np.array_equal(first["region_map"], c["region_map"]) for c in cases)


def test_real_and_phantom_tables_have_same_columns(shared_data):
    with open(shared_data / "text" / "ct_rate" / "validation_metadata.csv", encoding="utf-8") as file:
        assert file.readline().strip().split(",") == METADATA


def test_case_equals_phantom(tree, tmp_path):
    root, results = tree
    assert convert(root, tmp_path / "m.jsonl", "--dev-fraction", 0) == 0
    cases = read_manifest(tmp_path / "m.jsonl")
    assert [(c["patient_id"], c["split"]) for c in cases] == [
        ("train_1", "train"), ("train_2", "train"), ("valid_1", "test"),
    ]  # fmt: skip
    for case, phantom in zip(cases, results):
        loaded = LoadCT()(case)
        np.testing.assert_array_equal(loaded["volume"], phantom["volume"])
        np.testing.assert_array_equal(loaded["region_map"], phantom["region_map"])
        np.testing.assert_allclose(loaded["affine"], phantom["affine"], atol=1e-3)
        assert case["labels"] == phantom["labels"]
        assert case["report"]["impression"] == clean(phantom["report"]["impression"])
        assert [s["text"] for s in case["cot"]] and case["source"] == "CT-RATE v2"
        assert "sex" in case["extra"]


def test_dev_split_contains_training_patients_only(tree, tmp_path):
    assert convert(tree[0], tmp_path / "m.jsonl", "--dev-fraction", 1, "--valid-as", "other", "--check", "files") == 0
    assert [c["split"] for c in read_manifest(tmp_path / "m.jsonl")] == ["val", "val", "other"]


def test_v2_files_are_rejected_as_v1(own_tree, tmp_path, capsys):
    for split in ("train", "valid"):
        shutil.rmtree(own_tree / split)
        (own_tree / f"{split}_fixed").rename(own_tree / split)
    assert convert(own_tree.parent, tmp_path / "m.jsonl", "--release", "v1", "--check", "files") == 1
    text = printed(capsys)
    assert "0 kept, 3 dropped" in text and "--release v2" in text
    assert not (tmp_path / "m.jsonl").exists()


@pytest.mark.parametrize("intercept", [-1024, -8192])
def test_second_rescale_raises(tree, intercept):
    path = next((tree[0] / "dataset" / "valid_fixed").rglob("*.nii.gz"))
    read_ct(path)
    with pytest.raises(CTReadError, match=str(path.name)):
        read_ct(path, rescale=(1, intercept))


def test_v1_files_are_rejected_as_v2(own_tree, tmp_path, capsys):
    for split in ("train", "valid"):
        shutil.rmtree(own_tree / f"{split}_fixed")
        (own_tree / split).rename(own_tree / f"{split}_fixed")
    assert convert(own_tree.parent, tmp_path / "m.jsonl", "--check", "files") == 1
    assert "--release v1" in printed(capsys)


def test_missing_release_lists_other_release(own_tree, tmp_path, capsys):
    shutil.rmtree(own_tree / "train")
    shutil.rmtree(own_tree / "valid")
    assert convert(own_tree.parent, tmp_path / "m.jsonl", "--release", "v1") == 1
    assert "train_fixed, valid_fixed" in printed(capsys)


def test_dropped_volumes_have_reasons(own_tree, tmp_path, capsys):
    metadata = own_tree / "metadata"
    (metadata / "no_chest_train.txt").write_text("train_1_a_1.nii.gz\n")
    (metadata / "train_metadata.csv").write_text((metadata / "train_metadata.csv").read_text().splitlines()[0] + "\n")
    reports = own_tree / "radiology_text_reports" / "validation_reports.csv"
    header = reports.read_text().splitlines()[0]
    reports.write_text(header + "\nvalid_1_a_1.nii.gz,Not given.,Not given.,Not given.,Not given.\n")
    shutil.copytree(own_tree / "train" / "train_2", own_tree / "train" / "train_1267")
    (path,) = (own_tree / "train" / "train_1267").rglob("*.nii.gz")
    path.rename(path.with_name("train_1267_a_4.nii.gz"))
    # A table with only a header raises an error.
    assert convert(own_tree.parent, tmp_path / "m.jsonl", "--release", "v1") == 1
    assert "train_metadata.csv" in printed(capsys)
    (metadata / "train_metadata.csv").unlink()
    assert convert(own_tree.parent, tmp_path / "m.jsonl", "--release", "v1") == 1
    text = printed(capsys)
    assert "0 kept, 4 dropped" in text
    for reason in ("no_chest", "metadata", "--allow-no-report", KNOWN_BAD["train_1267_a_4"]):
        assert reason in text
    dropped = (tmp_path / "m.jsonl.dropped.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in dropped] == ["train_1_a_1", "train_2_a_1", "train_1267_a_4", "valid_1_a_1"]


def test_reports_without_match_raise(own_tree, tmp_path, capsys):
    reports = own_tree / "radiology_text_reports"
    (reports / "validation_reports.csv").unlink()
    (reports / "train_reports.csv").write_text(
        (reports / "train_reports.csv")
        .read_text()
        .replace("train_1_a", "train_91_a")
        .replace("train_2_a", "train_92_a")
    )
    assert convert(own_tree.parent, tmp_path / "m.jsonl") == 1
    text = printed(capsys)
    assert "3 volumes" in text and "reports" in text and "train_91_a_1" in text
    assert not (tmp_path / "m.jsonl").exists()


def test_reports_by_scan_apply_to_every_reconstruction(own_tree, tmp_path):
    """Some copies have the scan in VolumeName and the volume in VolumeToAnnotate."""
    for path in (own_tree / "radiology_text_reports").glob("*.csv"):
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["VolumeName", "VolumeToAnnotate", *list(rows[0])[1:]])
            writer.writeheader()
            for row in rows:
                scan = row["VolumeName"].removesuffix("_1.nii.gz")
                writer.writerow({**row, "VolumeName": scan, "VolumeToAnnotate": f"{scan}_2.nii.gz"})
    assert convert(own_tree.parent, tmp_path / "m.jsonl", "--check", "files") == 0
    assert all(case["report"]["findings"] for case in read_manifest(tmp_path / "m.jsonl"))


def test_one_reconstruction_per_scan(own_tree, tmp_path):
    folder = own_tree / "valid_fixed" / "valid_1" / "valid_1_a"
    shutil.copy(folder / "valid_1_a_1.nii.gz", folder / "valid_1_a_2.nii.gz")
    for options, count in (((), 4), (("--one-per-scan",), 3)):
        assert convert(own_tree.parent, tmp_path / "m.jsonl", "--check", "files", *options) == 0
        assert len(read_manifest(tmp_path / "m.jsonl")) == count


def test_metadata_that_differ_from_v2_header_are_reported(own_tree, tmp_path, capsys):
    path = own_tree / "metadata" / "validation_metadata.csv"
    with open(path, encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow({**row, "ZSpacing": str(float(row["ZSpacing"]) * 3)})
    assert convert(own_tree.parent, tmp_path / "m.jsonl", "--check", "files") == 0
    assert str(round(float(row["ZSpacing"]) * 3, 3)) in printed(capsys)
    assert len(json.loads((tmp_path / "m.jsonl").read_text().splitlines()[0])["labels"]) == 18


def test_write_phantom_tool_writes_this_layout(tmp_path):
    write = tool("write_phantom")
    command = (tmp_path, "--layout", "ct_rate", "--num-cases", 1, "--shape", 8, 24, 24, "--splits", "val", "train")
    assert write(*command) == 0
    assert convert(tmp_path, tmp_path / "m.jsonl", "--release", "v1", "--dev-fraction", 0) == 0
    cases = read_manifest(tmp_path / "m.jsonl")
    assert {c["case_id"]: c["split"] for c in cases} == {"train_1_a_1": "train", "valid_1_a_1": "test"}
    assert write(*command) == 1


def test_malformed_and_conflicting_report_rows_are_reported(own_tree, tmp_path, capsys):
    reports = own_tree / "radiology_text_reports" / "train_reports.csv"
    reports.write_text(
        "VolumeName;ClinicalInformation_EN;Technique_EN;Findings_EN;Impressions_EN\n"
        "train_1_a_1.nii.gz;x;x;The liver is normal.;N/A\n"
        "train_1_a_1.nii.gz;x;x;The liver is large.;-\n"
        "train_2_a_1.nii.gz;x;x;The liver is normal; the heart is large.;Cardiomegaly.\n"
    )
    assert convert(own_tree.parent, tmp_path / "m.jsonl", "--check", "files", "--dev-fraction", 0) == 0
    text = printed(capsys)
    assert "row 4 (6 cells)" in text and "train_1_a_1" in text
    assert "train_2_a_1" in text and "--allow-no-report" in text
    case = read_manifest(tmp_path / "m.jsonl", split="train")[0]
    assert case["report"] == {"findings": "The liver is normal."}


def add_reconstructions(own_tree, rows):
    """Add a volume and a metadata row to valid_1_a for each (SeriesDescription, ReconstructionDiameter)."""
    folder = own_tree / "valid_fixed" / "valid_1" / "valid_1_a"
    path = own_tree / "metadata" / "validation_metadata.csv"
    with open(path, encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        for number, (description, width) in enumerate(rows, start=1):
            if number > 1:
                shutil.copy(folder / "valid_1_a_1.nii.gz", folder / f"valid_1_a_{number}.nii.gz")
            name = f"valid_1_a_{number}.nii.gz"
            writer.writerow(
                {**row, "VolumeName": name, "SeriesDescription": description, "ReconstructionDiameter": width}
            )


@pytest.mark.parametrize(
    ("rows", "listed", "kept"),
    [
        ([("1 MM", "240"), ("KEMIK", "259"), ("Thorax", "385")], None, "valid_1_a_3"),
        ([("", "350"), ("1 MM", "240")], None, "valid_1_a_1"),
        ([("240", "240"), ("HRCT", "250")], None, "valid_1_a_2"),
        ([("Thorax", "385"), ("Thorax", "385")], "valid_1_a_1.nii.gz", "valid_1_a_2"),
        ([("1 MM", "240"), ("", "385")], "valid_9_a_1.nii.gz", "valid_1_a_1"),  # the official list has priority
        ([("1 MM", "240"), ("KEMIK", "259")], None, None),
    ],
)
def test_representative_volume_shows_chest(own_tree, rows, listed, kept):
    add_reconstructions(own_tree, rows)
    if listed:
        (own_tree / "metadata" / "no_chest_valid.txt").write_text(listed + "\n")
    data = CTRate(own_tree.parent)
    assert data.find("valid_1_a") == kept and not data.choice_notes()
    listed = ct_rate_cases(data, one_per_scan=True)
    assert [c["case_id"] for c in listed.cases if c["case_id"].startswith("valid")] == ([kept] if kept else [])


def test_evaluation_sets_by_name():
    volumes = {
        "valid_1_a_1": VolumeFacts("valid_1_a", False, 1.0, "one"),
        "valid_1_a_2": VolumeFacts("valid_1_a", True, 2.0, "one"),
        "valid_2_a_1": VolumeFacts("valid_2_a", True, 2.0, "two"),
        "valid_2_a_2": VolumeFacts("valid_2_a", True, 1.0, "two"),
        "valid_10_a_1": VolumeFacts("valid_10_a", None, None, "two"),
        "valid_11_a_1": VolumeFacts("valid_11_a", None, None, ""),
        "valid_12_a_1": VolumeFacts("valid_12_a", None, None, ""),
    }
    sets = evaluation_sets(volumes)
    assert sets["all"] == set(volumes) and sets["nohead"] == set(volumes) - {"valid_1_a_1"}
    assert sets["first"] == {v for v in volumes if v.endswith("_1")}
    assert sets["colipri"] == {"valid_2_a_2", "valid_11_a_1", "valid_12_a_1"}


@pytest.mark.parametrize(("name", "kept"), [("all", [1, 2, 3]), ("first", [1]), ("nohead", [2, 3]), ("colipri", [])])
def test_evaluation_sets_are_converted_and_read_by_name(own_tree, tmp_path, name, kept):
    add_reconstructions(own_tree, [("1 MM", "240"), ("Thorax", "385"), ("Thorax", "385")])
    (own_tree / "metadata" / "no_chest_valid.txt").write_text("valid_1_a_1.nii.gz\n")
    out = tmp_path / "m.jsonl"
    assert convert(own_tree.parent, out, "--set", name, "--check", "files") == 0
    ids = [f"valid_1_a_{n}" for n in kept]
    assert [c["case_id"] for c in read_manifest(out) if c["split"] == "test"] == ids
    assert convert(own_tree.parent, out, "--set", "all", "--check", "files") == 0
    if not kept:
        with pytest.raises(ManifestError, match="nohead"):
            ManifestCT(str(out), split="test", evaluation_set=name)
        return
    data = ManifestCT(str(out), split="test", evaluation_set=name)
    assert [data.get_data_info(i)["case_id"] for i in range(len(data))] == ids
    assert data.metainfo["evaluation_set"] == name and data.metainfo["labels_source"] == "CT-RATE"


def test_choice_without_metadata_is_reported(own_tree):
    add_reconstructions(own_tree, [("", ""), ("", "")])
    for path in (own_tree / "metadata").glob("*.csv"):
        path.unlink()
    listed = ct_rate_cases(CTRate(own_tree.parent), one_per_scan=True)
    assert any("valid_1_a" in note and "no_chest_*.txt" in note for note in listed.notes)


def test_real_metadata_are_chests(shared_data):
    table = read_csv(shared_data / "text" / "ct_rate" / "validation_metadata.csv")
    assert len(table.rows) == 469 and all(shows_chest(row, spacing_of(row)) for row in table.rows)


def test_corrupt_volumes():
    assert {"train_3821_a_5", "train_1267_a_4", *(f"train_9792_a_{n}" for n in range(1, 5))} < set(KNOWN_BAD)
    assert len(KNOWN_BAD) == 9


def test_corrected_labels_replace_published_labels(own_tree, tmp_path):
    published = own_tree / "multi_abnormality_labels" / "train_predicted_labels.csv"
    text = published.read_text().splitlines()
    corrected = tmp_path / "corrected.csv"
    corrected.write_text("\n".join([text[0], *(f"train_{n}_a_1.nii.gz" + ",1" * 18 for n in (1, 2))]) + "\n")
    out = tmp_path / "m.jsonl"
    assert convert(own_tree.parent, out, "--labels", corrected, "--check", "files", "--dev-fraction", 0) == 0
    cases = read_manifest(out)
    assert [set(c["labels"].values()) for c in cases] == [{1}, {1}, set()]
    assert [c["extra"].get("labels_source") for c in cases][:2] == ["corrected.csv"] * 2
