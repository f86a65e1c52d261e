"""Converters of Merlin and INSPECT, on phantoms in their layouts."""

from __future__ import annotations

import builtins

import nibabel as nib
import numpy as np
import pytest

from ctvlm.datasets.conversion.merlin import split_findings
from ctvlm.datasets.transforms import LoadCT
from tests.test_datasets.converter_tools import phantoms, read_manifest, tool, write_nifti, write_table


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


def printed(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture(scope="module")
def phantom() -> dict:
    return phantoms(1)[0]


# --- Merlin

REPORTS = [
    {"study id": "AC1", "Findings": "FINDINGS: The liver is normal. The heart is large.\nIMPRESSION:\n1. Large heart.",
     "Split": "train"},
    {"study id": "AC2", "Findings": "A cyst of the left kidney. Our impression is a simple cyst.", "Split": "val"},
    {"study id": "AC3", "Findings": "", "Split": "test"},
    {"study id": "AC4", "Findings": "IMPRESSION: Normal.", "Split": "other"},
    {"study id": "AC9", "Findings": "Findings: a. Impression: b.", "Split": "test"},
]  # fmt: skip
LABELS = [
    {"index": "7", "study id": "AC1", "submucosal_edema": "-1", "hepatic_steatosis": "1", "ascites": "0"},
    {"index": "8", "study id": "AC2", "submucosal_edema": "1", "hepatic_steatosis": "-1", "ascites": "-1"},
]


def write_merlin(root, phantom, reports=REPORTS) -> None:
    for name in ("AC1", "AC2", "AC3", "AC4", "AC5"):
        write_nifti(root / "merlin_data" / f"{name}.nii.gz", phantom)
    write_table(root / "reports_final.csv", reports)
    write_table(root / "zero_shot_findings_disease_cls.csv", LABELS)


def test_merlin_reports_are_split_and_unknown_labels_are_null(tmp_path, phantom, capsys):
    write_merlin(tmp_path, phantom)
    assert tool("merlin_to_manifest")(tmp_path, tmp_path / "m.jsonl") == 0
    one, two = read_manifest(tmp_path / "m.jsonl")
    assert (one["case_id"], one["split"], two["case_id"], two["split"]) == ("AC1", "train", "AC2", "val")
    assert one["report"] == dict(findings="The liver is normal. The heart is large.", impression="1. Large heart.")
    assert two["report"] == dict(findings=REPORTS[1]["Findings"])
    assert [(s["text"], s["regions"]) for s in one["cot"]] == [
        ("The liver is normal.", ["liver"]), ("The heart is large.", ["heart"]),
    ]  # fmt: skip
    assert one["labels"] == {"submucosal edema": None, "hepatic steatosis": 1, "ascites": 0}
    np.testing.assert_array_equal(LoadCT()(one)["volume"], phantom["volume"])
    text = printed(capsys)
    assert "1 of 2 reports (50.0%) were split at an impression heading; findings only: AC2" in text
    assert "index (such as '7')" in text and "1 rows without a volume" in text
    dropped = dict(line.split("\t") for line in (tmp_path / "m.jsonl.dropped.tsv").read_text().splitlines())
    assert dropped == {
        "AC3": "no report",
        "AC4": "split 'other'; expected train, val or test",
        "AC5": "no row in reports_final.csv",
    }


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        ("FINDINGS: a.\nIMPRESSION: b.", "a.", "b."),
        ("a. Impression: b. Conclusion: c.", "a.", "b. c."),
        ("a.\nIMPRESSION\n1. b.", "a.", "1. b."),
        ("IMPRESSION: b.", None, "b."),
        ("a.\nIMPRESSION:", "a.", None),
        ("An impression of a mass. Other findings: c.", "An impression of a mass. Other findings: c.", None),
        ("a. IMPRESSION: 1. Incidental findings: b.", "a.", "1. Incidental findings: b."),
    ],
)  # fmt: skip
def test_merlin_split_rule(text, findings, impression):
    assert split_findings(text) == {k: v for k, v in dict(findings=findings, impression=impression).items() if v}


def test_merlin_workbook_equals_csv(tmp_path, phantom):
    openpyxl = pytest.importorskip("openpyxl", reason="needs ctvlm[excel]")
    write_merlin(tmp_path, phantom)
    convert = tool("merlin_to_manifest")
    assert convert(tmp_path, tmp_path / "csv.jsonl", "--check", "files") == 0
    (tmp_path / "reports_final.csv").unlink()
    book = openpyxl.Workbook()
    for row in [list(REPORTS[0]), *(list(row.values()) for row in REPORTS)]:
        book.active.append([value.replace("\n", "_x000D_\n") or None for value in row])
    book.create_sheet("notes").append(["x"])
    book.save(tmp_path / "reports_final.xlsx")
    assert convert(tmp_path, tmp_path / "xlsx.jsonl", "--check", "files") == 0
    assert (tmp_path / "xlsx.jsonl").read_text() == (tmp_path / "csv.jsonl").read_text()


def test_merlin_damaged_workbook_and_missing_package(tmp_path, phantom, capsys, monkeypatch):
    write_merlin(tmp_path, phantom)
    (tmp_path / "reports_final.csv").unlink()
    (tmp_path / "reports_final.xlsx").write_bytes(b"PK\x03\x04 not a workbook")
    convert = tool("merlin_to_manifest")
    real = builtins.__import__

    def without_openpyxl(name, *args, **kwargs):
        if name.startswith("openpyxl"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without_openpyxl)
        assert convert(tmp_path, tmp_path / "m.jsonl") == 1
    assert "pip install 'ctvlm[excel]'" in printed(capsys)
    pytest.importorskip("openpyxl", reason="needs ctvlm[excel]")
    assert convert(tmp_path, tmp_path / "m.jsonl") == 1
    assert "no readable Excel workbook" in printed(capsys)
    assert not (tmp_path / "m.jsonl").exists()


def test_merlin_rows_without_match_raise(tmp_path, phantom, capsys):
    write_merlin(tmp_path, phantom, [{"study id": "X1", "Findings": "a.", "Split": "train"}])
    assert tool("merlin_to_manifest")(tmp_path, tmp_path / "m.jsonl") == 1
    assert "'X1'" in printed(capsys)


# --- INSPECT


def write_inspect(root, phantom) -> None:
    """Seven files: one good, one with a trailing axis of length 1, four unreadable, one without a row."""
    folder = root / "CTPA"
    for name in ("PE1", "PE2", "PE3", "PE4", "PE5", "PE6", "PE7"):
        write_nifti(folder / f"{name}.nii.gz", phantom)
    image = nib.load(folder / "PE1.nii.gz")
    array = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(array[..., None], image.affine), folder / "PE2.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([array] * 2, axis=-1), image.affine), folder / "PE3.nii.gz")
    for name, direction in (("PE4", np.nan), ("PE5", 0.0)):
        broken = nib.Nifti1Image(array, None)
        affine = image.affine.copy()
        affine[1, 1] = direction
        broken.header.set_sform(affine, code=1)
        broken.header["srow_y"] = affine[1]
        nib.save(broken, folder / f"{name}.nii.gz")
    unknown = nib.Nifti1Image(array, None)
    unknown.header.set_sform(None, code=0)
    nib.save(unknown, folder / "PE6.nii.gz")
    ids = range(1, 7)
    write_table(
        root / "study_mapping_20250611.tsv",
        [dict(impression_id=i, person_id=100 + i // 2, image_id=f"PE{i}") for i in [*ids, 9]],
    )
    texts = dict.fromkeys(ids, "1. No embolism. 2. Cyst of the liver.")
    write_table(root / "impressions_20250611.tsv", [dict(impression_id=i, impressions=t) for i, t in texts.items()])
    write_table(
        root / "splits_20250611.tsv", [dict(impression_id=i, split="valid" if i == 1 else "train") for i in ids]
    )
    censored = {1: "Censored", 2: "TRUE"}
    write_table(
        root / "labels_20250611.tsv",
        [dict(impression_id=i, pe_positive=i % 2, mortality_12=censored.get(i, "FALSE"), days=7 * i) for i in ids],
    )


@pytest.mark.parametrize("check", ["full", "files"])
def test_inspect_unreadable_files_are_listed(tmp_path, phantom, capsys, check):
    write_inspect(tmp_path, phantom)
    out = tmp_path / "m.jsonl"
    write_table(tmp_path / "splits_20240101.tsv", [dict(impression_id=1, split="test")])
    assert tool("inspect_to_manifest")(tmp_path, out, "--check", check) == 0
    one, two = read_manifest(out)
    assert (one["case_id"], one["patient_id"], one["split"]) == ("PE1", "100", "val")
    assert (two["case_id"], two["patient_id"], two["split"]) == ("PE2", "101", "train")
    assert one["report"] == dict(impression="1. No embolism. 2. Cyst of the liver.")
    assert [s["regions"] for s in one["cot"]] == [[], ["liver"]]
    assert one["labels"] == {"pe positive": 1, "mortality 12": None}
    assert two["labels"] == {"pe positive": 0, "mortality 12": 1}
    for case in (one, two):
        np.testing.assert_array_equal(LoadCT()(case)["volume"], phantom["volume"])
    dropped = dict(line.split("\t") for line in out.with_name("m.jsonl.dropped.tsv").read_text().splitlines())
    assert sorted(dropped) == ["PE3", "PE4", "PE5", "PE6", "PE7"]
    assert "3 axes" in dropped["PE3"] and "voxel sizes" in dropped["PE4"] and "voxel sizes" in dropped["PE5"]
    assert "sform_code" in dropped["PE6"] and dropped["PE7"] == "no row in the study mapping"
    text = printed(capsys)
    assert "days (such as" in text and "1 studies without a volume" in text


@pytest.mark.parametrize("table", ["study_mapping", "impressions", "splits"])
def test_inspect_names_the_missing_table(tmp_path, phantom, capsys, table):
    write_inspect(tmp_path, phantom)
    (tmp_path / f"{table}_20250611.tsv").unlink()
    assert tool("inspect_to_manifest")(tmp_path, tmp_path / "m.jsonl") == 1
    assert f"no table {table}" in printed(capsys)
