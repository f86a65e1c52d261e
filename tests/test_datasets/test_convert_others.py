"""Converters of the other data sets, on phantoms in their layouts."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from ctvlm.datasets.conversion.rad_chestct import LABEL_MAPS, fold_columns, labels_of
from ctvlm.datasets.transforms import LoadCT
from ctvlm.text.finding_labels import CT_RATE_LABELS
from tests.test_datasets.converter_tools import phantoms, read_manifest, small_ct_rate, tool


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("ct_rate")
    return root, small_ct_rate(root)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


def printed(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def write_csv(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# --- CT-RATE CoT


def test_cot_records_of_all_formats_are_joined(tree, tmp_path, capsys):
    plain = {"volumename": "train_1_a_1.nii.gz", "question": "Is the heart large?", "answer": "Yes."}
    thinking = dict(
        image="dataset/train/valid_1/valid_1_a/valid_1_a_1.nii.gz",
        task_type="report",
        question="Q",
        report="",
        thinking="The aorta is wide. It is long.",
        answer="Findings: A. Impression: B.",
    )
    trace = "<task>T</task><observation>It is dark.</observation><reason>Fat.</reason><answer>Fatty liver is seen here."
    cortex = {"volume": "train_1_a", "question": "What of the liver?", "output": trace}
    (tmp_path / "plain.json").write_text(json.dumps([plain]))
    (tmp_path / "thinking.jsonl").write_text(json.dumps(thinking) + "\n")
    (tmp_path / "cortex" / "data").mkdir(parents=True)
    (tmp_path / "cortex" / "data" / "openended.json").write_text(
        json.dumps([cortex, {**plain, "volumename": "train_9_a_1"}])
    )
    files = ("--cot", tmp_path / "plain.json", tmp_path / "thinking.jsonl", tmp_path / "cortex")
    convert = tool("ct_rate_cot_to_manifest")
    assert convert(tree[0], tmp_path / "m.jsonl", *files, "--dev-fraction", 0) == 0
    one, two = read_manifest(tmp_path / "m.jsonl")
    assert (one["case_id"], one["split"], two["case_id"], two["split"]) == (
        "train_1_a_1",
        "train",
        "valid_1_a_1",
        "test",
    )
    assert [s["text"] for s in one["cot"]] == [
        "Is the heart large? Yes.",
        "It is dark.",
        "Fat.",
        "Fatty liver is seen here.",
    ]
    assert [s["regions"] for s in one["cot"]] == [["heart"], ["liver"], ["liver"], ["liver"]]
    assert one["cot"][1]["question"] == "What of the liver?"
    assert [s["text"] for s in two["cot"]] == ["The aorta is wide.", "It is long."]
    assert two["report"]["impression"] == tree[1][2]["report"]["impression"]
    assert "train_9_a_1" in printed(capsys)


def test_cot_without_volume_on_disk_raises(tree, tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps([dict(volumename="train_9_a_1", question="Q", answer="A b c d.")]))
    assert tool("ct_rate_cot_to_manifest")(tree[0], tmp_path / "m.jsonl", "--cot", tmp_path / "a.json") == 1
    assert "train_9_a_1" in printed(capsys)


# --- CT-RATE-AB


def ab_record(name: str, *turns: tuple[str, str], **more) -> dict:
    talk = [dict(zip(("from", "value"), turn)) for turn in turns]
    return {"id": name, "video": f"videos/{name}.mp4", "conversations": talk, **more}


def test_ct_rate_ab_turns_and_preferences(tree, tmp_path, capsys):
    ask = ("human", "<video>\nList the abnormalities.")
    first = ab_record("train_1_a_1", ask, ("gpt", "The heart is large."), ("human", "Liver?"), ("gpt", "Fatty liver."))
    second = ab_record("train_1_a_1", ("human", "Kidneys?"), ("gpt", "A cyst of the left kidney."))
    turn = {"from": "gpt", "value": "The heart is large."}
    pairs = [
        ab_record("train_1_a_1", ask, chosen=turn, rejected={**turn, "value": "The aorta is wide."}),
        ab_record(
            "valid_1_a_1",
            ask,
            ("gpt", "A nodule."),
            chosen="Emphysema.",
            rejected=[dict(role="assistant", content="A nodule.")],
        ),
        ab_record("train_9_a_1", ask, chosen="a", rejected="b"),
    ]
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "CT-RATE-AB-train.json").write_text(json.dumps([first, second]))
    (tmp_path / "ab" / "CT-RATE-AB-DPO.json").write_text(json.dumps([*pairs, pairs[0]]))
    convert, out = tool("ct_rate_ab_to_manifest"), tmp_path / "m.jsonl"
    assert convert(tree[0], out, "--records", tmp_path / "ab", "--dev-fraction", 0) == 0
    one, two = read_manifest(out)
    assert [(s["step"], s["question"], s["text"], s["regions"]) for s in one["cot"]] == [
        (1, "List the abnormalities.", "The heart is large.", ["heart"]),
        (2, "Liver?", "Liver? Fatty liver.", ["liver"]),
        (3, "Kidneys?", "A cyst of the left kidney.", ["kidney_left"]),
    ]
    assert one["extra"]["preferences"] == [
        dict(question="List the abnormalities.", chosen="The heart is large.", rejected="The aorta is wide.")
    ]
    assert (two["split"], two["cot"]) == ("test", [])
    assert two["extra"]["preferences"][0]["rejected"] == "A nodule."
    assert two["report"] == tree[1][2]["report"]
    text = printed(capsys)
    assert "train_9_a_1" in text and "3 turns and 2 preference pairs of 2 volumes" in text


@pytest.mark.parametrize(
    "record", [ab_record("train_1_a_1", chosen="a"), ab_record("train_1_a_1"), dict(conversations=[])]
)
def test_ct_rate_ab_incomplete_record_raises(tree, tmp_path, capsys, record):
    (tmp_path / "a.json").write_text(json.dumps([record]))
    assert tool("ct_rate_ab_to_manifest")(tree[0], tmp_path / "m.jsonl", "--records", tmp_path / "a.json") == 1
    assert "a.json, record 1: found the keys" in printed(capsys)


# --- RadGenome-ChestCT


def test_radgenome_sentences_masks_and_questions(tree, tmp_path):
    root, (phantom, *_) = tree
    rad = tmp_path / "radgenome"
    masks = rad / "dataset" / "train_mask" / "seg_train_1_a_1"
    masks.mkdir(parents=True)
    ct = nib.load(next((root / "dataset" / "train_fixed").rglob("train_1_a_1.nii.gz")))
    liver = phantom["region_map"] == 12
    for name, array in (("liver", liver), ("lung", np.isin(phantom["region_map"], range(1, 6))), ("left toe", liver)):
        stored = np.ascontiguousarray(array[:, ::-1, ::-1].transpose(2, 1, 0)).astype(np.uint8)
        nib.save(nib.Nifti1Image(stored, ct.affine), masks / f"{name}.nii.gz")
    rows = [
        ("abdomen", "The liver has a cyst."),
        ("lung", "A nodule in the right upper lobe."),
        ("", "A normal study."),
    ]
    write_csv(
        rad / "train_region_report.csv",
        [dict(Volumename="train_1_a_1.nii.gz", Anatomy=a, Sentence=s) for a, s in rows]
        + [dict(Volumename="train_8_a_1.nii.gz", Anatomy="lung", Sentence="x")],
    )
    write_csv(
        rad / "train_vqa_location.csv",
        [dict(Volumename="train_1_a_1.nii.gz", Anatomy="abdomen/abdomen/liver", Abnormality="cyst, stone")],
    )
    out = tmp_path / "m.jsonl"
    assert tool("radgenome_to_manifest")(rad, out, "--ct-rate", root, "--dev-fraction", 0) == 0
    (case,) = read_manifest(out)
    assert [(s["regions"], s["entities"]) for s in case["cot"]] == [
        (["liver"], ["cyst"]), (["lung_upper_lobe_right"], []), ([], []),
    ]  # fmt: skip
    assert case["extra"]["vqa"][0]["abnormality"] == "cyst, stone"
    loaded = LoadCT()(case)
    np.testing.assert_array_equal(loaded["region_map"] == 12, liver)
    assert set(loaded["coarse_masks"]) == {"lung"}


# --- ReXGroundingCT


@pytest.fixture
def rex(tree, tmp_path):
    root, results = tree
    folder = tmp_path / "rex" / "segmentations"
    folder.mkdir(parents=True)
    heart, liver = ((results[0]["region_map"] == i).astype(np.uint8) for i in (7, 12))
    instances = np.stack([heart * 2, np.zeros_like(heart), liver])[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(instances), np.eye(4)), folder / "train_1_a_1.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((1, 5, 5, 5), np.uint8), np.eye(4)), folder / "train_2_a_1.nii.gz")
    texts = {"0": "The heart is large.", "1": "A nodule.", "2": "A mass of the liver."}
    entry = dict(name="train_1_a_1.nii.gz", findings=texts, entity_counts={"0": 1}, shape=[32, 32, 12], pixels={"0": 9},
                 categories={"0": "2b"})  # fmt: skip
    index = dict(train=[entry, dict(name="train_2_a_1.nii.gz", findings={"0": "x"})],
                 val=[dict(name="train_1_b_1.nii.gz", findings={"0": "x"})])  # fmt: skip
    (tmp_path / "rex" / "dataset.json").write_text(json.dumps(index))
    return tmp_path / "rex", heart, liver


@pytest.mark.parametrize("release", ["v1", "v2"])
def test_rexgrounding_masks_match_ct(tree, rex, tmp_path, capsys, release):
    folder, heart, liver = rex
    out = tmp_path / "m.jsonl"
    assert tool("rexgrounding_to_manifest")(folder, out, "--ct-rate", tree[0], "--release", release) == 0
    (case,) = read_manifest(out)
    assert (case["split"], [s["lesion"] for s in case["cot"]]) == ("train", [1, None, 3])
    assert [s["regions"] for s in case["cot"]] == [["heart"], [], ["liver"]]
    assert case["cot"][0]["entities"] == ["2b"] and "sources" not in case["extra"]
    lesion = LoadCT()(case)["lesion_map"]
    np.testing.assert_array_equal(lesion == 1, heart > 0)
    np.testing.assert_array_equal(lesion == 3, liver > 0)
    text = printed(capsys)
    assert "(1, 5, 5, 5)" in text and "train_1_b_1" in text


# --- Rad-ChestCT


def test_rad_chestct_labels_are_mapped_and_unknown_is_null(tmp_path, capsys):
    assert all(tuple(rules) == CT_RATE_LABELS for rules in LABEL_MAPS.values())
    (phantom,) = phantoms(1)
    # (z, y, x) increasing to inferior, posterior, left.
    np.savez(tmp_path / "trn00001.npz", ct=phantom["volume"][::-1, ::-1, ::-1])
    shutil.copy(tmp_path / "trn00001.npz", tmp_path / "tst00001.npz")
    shutil.copy(tmp_path / "trn00001.npz", tmp_path / "lost.npz")
    table = {"nodule*left_upper": "0", "nodulegr1cm*lung": "1", "scarring*lung": "0", "hernia*esophagus": "1",
             "hernia*abdomen": "1", "calcification*heart": "1", "calcification*aorta": "0"}  # fmt: skip
    for split, rows in (("train", ["trn00001", "trn00002"]), ("test", ["tst00001"])):
        write_csv(
            tmp_path / f"img{split}_Abnormality_and_Location_Labels.csv", [dict(NoteAcc_DEID=r, **table) for r in rows]
        )
    out = tmp_path / "m.jsonl"
    assert tool("rad_chestct_to_manifest")(tmp_path, out, "--label-map", "ours") == 0
    one, two = read_manifest(out)
    assert (one["case_id"], one["split"], two["split"]) == ("trn00001", "train", "test")
    known = {name: value for name, value in one["labels"].items() if value is not None}
    assert known == {
        "Lung nodule": 1,
        "Pulmonary fibrotic sequela": 0,
        "Hiatal hernia": 1,
        "Arterial wall calcification": 0,
    }
    assert "ours" in one["extra"]["labels_source"]
    loaded = LoadCT()(one)
    np.testing.assert_array_equal(loaded["volume"], phantom["volume"])
    np.testing.assert_allclose(loaded["spacing"], 0.8)
    text = printed(capsys)
    assert "lost" in text and "Mosaic attenuation pattern" in text


@pytest.mark.parametrize(
    ("column", "label", "literature", "ours"),
    [
        ("calcification*liver", "Coronary artery wall calcification", 1, None),
        ("calcification*aorta", "Coronary artery wall calcification", 1, None),
        ("calcification*liver", "Arterial wall calcification", 1, None),
        ("calcification*aorta", "Arterial wall calcification", 1, 1),
        ("coronary_artery_disease*heart", "Coronary artery wall calcification", None, 1),
        ("hernia*abdomen", "Hiatal hernia", 1, None),
        ("hernia*stomach", "Hiatal hernia", 1, 1),
        ("groundglass*lung", "Lung opacity", None, 1),
        ("opacity*lung", "Lung opacity", 1, 1),
        ("breast_implant*breast", "Medical material", 1, None),
        ("heart_valve_replacement*heart", "Medical material", None, 1),
    ],
)
def test_rad_chestct_label_maps(column, label, literature, ours):
    row = {column: "1"}
    for label_map, expected in (("literature", literature), ("ours", ours)):
        assert labels_of(row, fold_columns(row, label_map))[label] == expected


def test_rad_chestct_rows_without_match_raise(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", ct=np.zeros((2, 2, 2)))
    write_csv(tmp_path / "imgtrain_Abnormality_and_Location_Labels.csv", [{"NoteAcc_DEID": "b", "nodule*lung": "1"}])
    assert tool("rad_chestct_to_manifest")(tmp_path, tmp_path / "m.jsonl") == 1
    assert "'b'" in printed(capsys)


# --- OmniAbnorm


def test_omniabnorm_cot_joins_records_of_case(tree, tmp_path):
    root, (phantom, *_) = tree
    ct = next((root / "dataset" / "train_fixed").rglob("train_1_a_1.nii.gz"))
    shutil.copy(ct, tmp_path / "ct.nii.gz")
    for number in (7, 12):
        stored = (phantom["region_map"] == number)[:, ::-1, ::-1].transpose(2, 1, 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(np.ascontiguousarray(stored), nib.load(ct).affine), tmp_path / f"{number}.nii.gz")
    step = dict(step=1, text="A cyst is seen.", anatomical_entities=["liver"], mask_region="liver")
    other = dict(step=1, text="The heart is large.", anatomical_entities=["heart", "cardiomegaly"], mask_region=None)
    record = dict(case_id="p7_1", image_path="ct.nii.gz", mask_path="12.nii.gz", region="abdomen", category="cyst",
                  cot_reasoning=[step])  # fmt: skip
    again = {**record, "mask_path": "7.nii.gz", "category": "cardiomegaly", "cot_reasoning": [other]}
    (tmp_path / "cot.json").write_text(json.dumps([record, again]))
    assert tool("omniabnorm_to_manifest")(tmp_path / "cot.json", tmp_path / "m.jsonl") == 0
    (case,) = read_manifest(tmp_path / "m.jsonl")
    assert case["patient_id"] == "p7"
    assert [(s["step"], s["regions"], s["lesion"]) for s in case["cot"]] == [(1, ["liver"], 1), (2, ["heart"], None)]
    lesion = LoadCT()(case)["lesion_map"]
    np.testing.assert_array_equal(lesion == 1, phantom["region_map"] == 12)


def test_omniabnorm_14k_thin_volumes_use_declared_window_and_spacing(tmp_path, capsys):
    image_module = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    slices = {o: np.kron(rng.integers(40, 200, (4, 5)), np.ones((8, 8))).astype(np.uint8) for o in (-2, -1, 0, 1, 4)}
    (tmp_path / "c1").mkdir()
    (tmp_path / "m1").mkdir()
    for offset, array in slices.items():
        image_module.fromarray(array).save(tmp_path / "c1" / f"{offset}.jpeg", quality=100)
    mask = np.zeros((32, 40), np.uint8)
    mask[8:16, 16:32] = 255
    image_module.fromarray(mask).save(tmp_path / "m1" / "7.jpeg", quality=60)
    entry = dict(image="c1", mask="m1", context=[-2, -1, 1, 4], plane="axial",
                 abnormality=[dict(id=7, category=["cyst"], rewritten_findings=["A cyst in the liver."])])  # fmt: skip
    index = {"1_a": entry, "2_a": {**entry, "plane": "sagittal"}, "3_a": dict(image="m1", plane="axial"),
             "4_a": {k: v for k, v in entry.items() if k != "plane"}}  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(index))
    convert, out = tool("omniabnorm_to_manifest"), tmp_path / "m.jsonl"
    assert convert(tmp_path / "train.json", out) == 2
    assert "--window" in printed(capsys)
    declared = ("--window", 40, 400, "--spacing", 5, 0.8, 0.7)
    assert convert(tmp_path / "train.json", out, *declared) == 0
    text = printed(capsys)
    assert "--planes sagittal" in text and "0.jpeg" in text and "set --plane" in text
    (case,) = read_manifest(out)
    assert (case["split"], case["labels"], case["patient_id"]) == ("train", {"Abnormality": 1}, "1")
    assert case["extra"]["declared"] == {"window": [40, 400], "spacing": [5, 0.8, 0.7]}
    assert [(s["regions"], s["lesion"], s["entities"]) for s in case["cot"]] == [(["liver"], 1, ["cyst"])]
    loaded = LoadCT()(case)
    # Rows increase to posterior, columns to left, slices to inferior. Slices -2..1 are contiguous, 4 is not.
    expected = np.stack([slices[o] for o in (-2, -1, 0, 1)])[::-1, ::-1, ::-1] / 255.0 * 400 - 160
    np.testing.assert_allclose(loaded["volume"], expected, atol=6)
    np.testing.assert_allclose(loaded["spacing"], (5, 0.8, 0.7), rtol=1e-5)
    marked = np.zeros((4, 32, 40), bool)
    marked[2] = mask > 0
    np.testing.assert_array_equal(loaded["lesion_map"] == 1, marked[::-1, ::-1, ::-1])
    assert not any(p.name.startswith(".part") for p in tmp_path.rglob("*"))
