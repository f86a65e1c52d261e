"""Conversion of report and reasoning text to steps."""

from __future__ import annotations

import csv

import pytest

from ctvlm.anatomy import mention_lexicon
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError
from ctvlm.datasets.conversion.ct_rate_cot import read_record, record_steps
from ctvlm.datasets.conversion.ct_rate_files import parse_name, spacing_of
from ctvlm.datasets.conversion.radgenome import leaves, regions_of_anatomy, sentence_steps
from ctvlm.datasets.conversion.splits import carve, drop_leaks, three_way
from ctvlm.datasets.conversion.text import clean, number_steps, split_report, tagged, text_steps
from ctvlm.text import plain_sentences, split_sentences


@pytest.fixture(scope="module")
def lexicon():
    return mention_lexicon()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Slices of 1.5 mm. The liver is normal.", ["Slices of 1.5 mm.", "The liver is normal."]),
        ("Nodules, e.g. Two in the RUL. No mass.", ["Nodules, e.g. Two in the RUL.", "No mass."]),
        ("1. Emphysema.\n2. Hiatal hernia.", ["Emphysema.", "Hiatal hernia."]),
        ("- Liver: normal\n- Spleen: large", ["Liver: normal", "Spleen: large"]),
        ("A mass of 5x4x5. On the right, a cyst.", ["A mass of 5x4x5.", "On the right, a cyst."]),
        ("Is it there? No. It is not.", ["Is it there?", "No.", "It is not."]),
        ("  ", []),
        (
            "A scar in the Rt. Lower lobe, approx. 5 mm. A cyst of 3 cm. Done.",
            ["A scar in the Rt. Lower lobe, approx. 5 mm.", "A cyst of 3 cm.", "Done."],
        ),
        ("右肺上叶见结节，约5.5mm。左肺未见异常！", ["右肺上叶见结节，约5.5mm。", "左肺未见异常！"]),
        ("右肺に結節を認める。左肺は正常です。", ["右肺に結節を認める。", "左肺は正常です。"]),
        ("우폐에 결절이 있다. 좌폐는 정상이다.", ["우폐에 결절이 있다.", "좌폐는 정상이다."]),
        ("Правое лёгкое без изменений. Узел 5.5 мм.", ["Правое лёгкое без изменений.", "Узел 5.5 мм."]),
    ],
)
def test_sentence_splitting(text, parts):
    assert plain_sentences(text) == parts


def test_sentence_splitting_keeps_all_words(shared_data):
    path = shared_data / "text" / "ct_rate" / "validation_reports.csv"
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = clean(row["Findings_EN"])
            parts = split_sentences(text)
            assert " ".join(parts).split() == text.split()
            assert max(len(part.split()) for part in parts) < 120


def test_sentences_get_mentioned_regions(lexicon):
    steps = text_steps("The heart is large. A nodule in the left lower lobe. Normal study.", lexicon)
    assert [s["regions"] for s in steps] == [["heart"], ["lung_lower_lobe_left"], []]
    assert [s["step"] for s in steps] == [1, 2, 3]
    assert "question" not in steps[0]


def test_question_is_stored_and_provides_regions(lexicon):
    steps = text_steps("It is clear. The aorta is wide.", lexicon, question="Is the right lower lobe clear?")
    assert {s["question"] for s in steps} == {"Is the right lower lobe clear?"}
    assert [s["regions"] for s in steps] == [["lung_lower_lobe_right"], ["aorta"]]


def test_known_anatomy_is_narrowed_by_sentence(lexicon):
    lungs = regions_of_anatomy("lung", lexicon)
    assert len(lungs) == 5
    named = text_steps("A nodule in the right upper lobe.", lexicon, within=lungs)
    other = text_steps("A nodule beside the aorta.", lexicon, within=lungs)
    assert named[0]["regions"] == ["lung_upper_lobe_right"]
    assert len(other[0]["regions"]) == 5


def test_explicit_steps_are_not_split(lexicon):
    text = "Look first. Step 1: The heart is large. It presses. **Step 2:** The liver is normal."
    assert [s["text"] for s in text_steps(text, lexicon)] == [
        "Look first.",
        "The heart is large. It presses.",
        "The liver is normal.",
    ]


def test_number_steps_removes_duplicates(lexicon):
    steps = text_steps("The heart is large. The heart is large. The liver is normal.", lexicon)
    assert [(s["step"], s["text"]) for s in number_steps(steps)] == [
        (1, "The heart is large."),
        (2, "The liver is normal."),
    ]


def test_tags_and_headings():
    text = "<task>Look.</task>\n<observation>Seen.<reason>So.</reason> <answer>Yes</answer>"
    assert tagged(text) == {"task": "Look.", "observation": "Seen.", "reason": "So.", "answer": "Yes"}
    assert tagged("no tags: a < b") == {}
    assert split_report("Findings: Clear. Impression: Normal.") == {"findings": "Clear.", "impression": "Normal."}
    assert split_report("Clear.") == {}
    assert clean(" Not given. ") == ""


@pytest.mark.parametrize(
    "record",
    [
        {"volumename": "train_1_a_1.nii.gz", "question": "Q?", "answer": "The heart is large."},
        {"image": "dataset/train/train_1/train_1_a/train_1_a_1.nii.gz", "task_type": "vqa", "question": "Q?",
         "thinking": "The heart is large.", "answer": "B"},
        {"image": "train_1_a_1", "conversations": [
            {"from": "human", "value": "<image> Q?"},
            {"from": "gpt", "value": "<task>T</task><reason>The heart is large.<answer>B"}]},
    ],
)  # fmt: skip
def test_all_record_formats_give_same_step(record, lexicon):
    values = read_record(record)
    steps = record_steps(values, lexicon)
    assert parse_name(values["volume"]).volume == "train_1_a_1"
    assert (steps[0]["text"], steps[0]["question"]) == ("The heart is large.", "Q?")
    assert [s["text"] for s in steps[1:]] in ([], ["Q? B"])


def test_record_without_text_raises_with_keys():
    with pytest.raises(ConversionError, match="'foo'.*volumename"):
        read_record({"foo": 1, "answer": "x"})


@pytest.mark.parametrize(
    ("text", "volume", "patient"),
    [
        ("valid_1_a_2.nii.gz", "valid_1_a_2", "valid_1"),
        ("dataset/train/valid_7/valid_7_b/valid_7_b_1.nii.gz", "valid_7_b_1", "valid_7"),
        ("train_12_c", "train_12_c", "train_12"),
        ("seg_train_12_c_3", "train_12_c_3", "train_12"),
    ],
)
def test_parse_name(text, volume, patient):
    assert (parse_name(text).volume, parse_name(text).patient_id) == (volume, patient)


def test_parse_name_of_other_text_is_none():
    assert parse_name("dataset/train/readme.txt") is None
    assert parse_name("constrain_1_a_1.nii.gz") is None


def test_spacing_of_metadata_row():
    assert spacing_of({"XYSpacing": "[0.34, 0.35]", "ZSpacing": "1.5"}) == (1.5, 0.35, 0.34)
    assert spacing_of({"XYSpacing": "", "ZSpacing": "1.5"}) is None


def test_radgenome_sentence_with_two_anatomies_is_one_step(lexicon):
    assert leaves(["lung", "lung/lung/left lung", "heart"]) == ["heart", "lung/lung/left lung"]
    rows = [
        {"Anatomy": "lung", "Sentence": "Consolidation at the base."},
        {"Anatomy": "lung/lung/lung lower lobe/left lung lower lobe", "Sentence": "Consolidation at the base."},
        {"Anatomy": "", "Sentence": "A normal study."},
        {"Anatomy": "pleura", "Sentence": "No effusion in the right lung. None at all."},
    ]
    steps = sentence_steps(rows, ["consolidation"], lexicon)
    assert [s["regions"] for s in steps[:2]] == [["lung_lower_lobe_left"], []]
    assert [s["entities"] for s in steps] == [["consolidation"], [], []]
    assert steps[2]["text"] == "No effusion in the right lung. None at all." and len(steps) == 3


def test_patient_fractions_are_correct_and_stable():
    patients = [f"train_{i}" for i in range(4000)]
    carved = [carve("train", p, 0.1) for p in patients]
    assert 0.08 < carved.count("val") / 4000 < 0.12
    assert carve("test", "train_1", 1.0) == "test"
    splits = [three_way(p, 0.1, 0.2) for p in patients]
    assert 0.17 < splits.count("test") / 4000 < 0.23 and 0.08 < splits.count("val") / 4000 < 0.12
    assert splits == [three_way(p, 0.1, 0.2) for p in patients]


def test_patient_stays_in_split_of_highest_priority():
    names = [("a", "p1", "train"), ("b", "p1", "test"), ("c", "p1", "val"), ("d", "p2", "train")]
    found = drop_leaks(CaseList([dict(case_id=c, patient_id=p, split=s) for c, p, s in names]))
    assert [c["case_id"] for c in found.cases] == ["b", "d"]
    assert [name for name, _ in found.dropped] == ["a", "c"]
    assert "test" in found.dropped[0][1]


@pytest.mark.parametrize(
    "text", ["右肺见结节。肝脏正常。", "結節。正常です。", "결절이 있다. 정상이다.", "Узел справа. Печень в норме."]
)
def test_reports_in_other_languages_give_steps(text, lexicon):
    assert len(text_steps(text, lexicon)) == 2
    assert "".join(step["text"] for step in text_steps(text, lexicon)).replace(" ", "") == text.replace(" ", "")
