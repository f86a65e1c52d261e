"""Opposites change one fact of a sentence, and uncertain sentences have none."""

from __future__ import annotations

import csv

import pytest

from ctvlm.phantom.plan import sample_plan
from ctvlm.phantom.reasoning import write_report
from ctvlm.text import opposites, plain_sentences, swap_sides
from ctvlm.text.opposites import KINDS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No pleural effusion is seen.", {"negation": "Pleural effusion is seen."}),
        ("There is no pneumothorax.", {"negation": "There is pneumothorax."}),
        ("The spleen is not enlarged.", {"negation": "The spleen is enlarged."}),
        ("Normal heart size, without effusion.", {"negation": "Normal heart size, with effusion."}),
        ("The right lung is clear.", {"negation": "The right lung is not clear."}),
        (
            "There is a small cyst in the left kidney.",
            {
                "negation": "There is no small cyst in the left kidney.",
                "laterality": "There is a small cyst in the right kidney.",
                "size": "There is a large cyst in the left kidney.",
            },
        ),
        (
            "An extensive opacity is seen.",
            {"negation": "No extensive opacity is seen.", "size": "A minimal opacity is seen."},
        ),
        ("The liver shows mild steatosis.", {"negation": "The liver does not show mild steatosis.",
                                             "size": "The liver shows severe steatosis."}),
        ("A few nodules are seen.", {"negation": "No nodules are seen.", "size": "Numerous nodules are seen."}),
        ("Numerous nodules in the RUL.", {"laterality": "Numerous nodules in the LUL.",
                                          "size": "A few nodules in the RUL."}),
        # A name, not a size.
        ("Dilated small bowel loops.", {}),
        # Both sides: the swapped text says the same.
        ("Bilateral effusions, right and left.", {}),
        ("Opacities in both lungs.", {}),
        ("The thick-walled bladder.", {}),
        # Uncertain statements.
        ("A nodule cannot be excluded.", {}),
        ("Neither kidney shows hydronephrosis.", {}),
        ("There is no significant change.", {}),
        ("Follow-up is recommended.", {}),
        ("", {}),
        ("Keine Ergüsse.", {}),
    ],
)  # fmt: skip
def test_opposites(text, expected):
    assert dict(opposites(text)) == expected


def test_opposites_of_phantom_reports():
    """Most sentences have one; a sentence with a finding on one side has its mirror image."""
    sentences = [step["text"] for seed in range(60) for step in write_report(sample_plan(seed)).steps]
    found = [opposites(text) for text in sentences]
    assert sum(map(bool, found)) > 0.8 * len(sentences)
    assert {kind for one in found for kind, _ in one} == set(KINDS)
    for text, one in zip(sentences, found, strict=True):
        changed = dict(one)
        assert text not in changed.values()
        assert len(set(changed.values())) == len(changed)
        assert changed.get("laterality", swap_sides(text)) == swap_sides(text)


def test_opposites_of_real_reports(shared_data):
    """Four of five sentences of CT-RATE have an opposite. A second negation restores the words of the first."""
    with open(shared_data / "text/ct_rate/validation_reports.csv", encoding="utf-8") as file:
        reports = [row["Findings_EN"] for _, row in zip(range(40), csv.DictReader(file))]
    sentences = [text for report in reports for text in plain_sentences(report)]
    negated = [(text, dict(opposites(text)).get("negation")) for text in sentences]
    assert sum(new is not None for _, new in negated) > 0.8 * len(sentences)
    for text, new in negated:
        if new and new.startswith("There is no ") and text.startswith("There is "):
            assert dict(opposites(new))["negation"].lower().removeprefix("there is ") in text.lower()
