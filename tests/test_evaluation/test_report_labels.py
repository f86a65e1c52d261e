import csv

import numpy as np
import pytest

from ctvlm.evaluation.functional import clinical_scores, report_labels
from ctvlm.phantom.plan import sample_plan
from ctvlm.phantom.reasoning import write_report
from ctvlm.text.finding_labels import CT_RATE_LABELS


def stated(text):
    return {name for name, value in report_labels(text).items() if value}


def test_an_empty_report_states_nothing():
    assert report_labels("") == dict.fromkeys(CT_RATE_LABELS, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No consolidation, nodule or pleural effusion is seen.", set()),
        ("Pericardial effusion-thickening was not observed.", set()),
        ("The pleural spaces are free of fluid.", set()),
        ("The heart is of normal size, without pericardial effusion.", set()),
        ("There is no cardiomegaly, but a small pericardial effusion.", {"Pericardial effusion"}),
        ("No mass is seen in either lung, nodules are observed in the left one.", {"Lung nodule"}),
        ("The heart is not enlarged, and coronary calcifications are seen.", {"Coronary artery wall calcification"}),
        ("Pleural effusion: none. Emphysema.", {"Emphysema"}),
        ("Heart size increased. A 3.5 mm nodule in the right lobe.", {"Cardiomegaly", "Lung nodule"}),
        ("The right thyroid lobe contains a nodule.", set()),
        (
            "Calcific atheroma plaques in the aortic arch and coronary arteries.",
            {"Arterial wall calcification", "Coronary artery wall calcification"},
        ),
        ("Coronary artery wall calcification.", {"Coronary artery wall calcification"}),
        ("Subcutaneous emphysema on the left. Hiatal hernia.", {"Hiatal hernia"}),
        ("Contrast material was not given; a catheter ends in the right atrium.", {"Medical material"}),
    ],
)
def test_negation_and_scope(text, expected):
    assert stated(text) == expected


def test_case_spaces_and_order_of_sentences_have_no_effect():
    text = "Mild emphysema in both lungs. No pleural effusion. A small solid nodule is seen."
    reordered = " ".join(reversed([part + "." for part in text.split(".") if part]))
    assert stated(text) == stated(text.upper()) == stated(text.replace(" ", "\n ")) == stated(reordered)


def scores_of(truths, texts):
    truth, predicted = (
        np.array([[np.nan if row[name] is None else float(row[name]) for name in CT_RATE_LABELS] for row in rows])
        for rows in (truths, map(report_labels, texts))
    )
    return clinical_scores(truth, predicted)


def test_labels_of_phantom_reports():
    reports = [write_report(sample_plan(seed)) for seed in range(400)]
    scores = scores_of([r.labels for r in reports], [f"{r.findings} {r.impression}" for r in reports])
    assert scores["precision_micro"] > 0.99 and scores["recall_micro"] > 0.99
    assert scores["precision_macro"] > 0.95 and scores["recall_macro"] > 0.95


def test_labels_of_real_reports_equal_those_of_ct_rate(shared_data):
    """240 of CT-RATE's validation reports, which were also used to develop the rules."""
    folder = shared_data / "text" / "ct_rate"
    with open(folder / "validation_reports_by_study.csv", newline="", encoding="utf-8") as file:
        reports = list(csv.DictReader(file))
    with open(folder / "valid_predicted_labels.csv", newline="", encoding="utf-8") as file:
        labels = {row.pop("VolumeName"): row for row in csv.DictReader(file)}
    texts = [f"{row['Findings_EN']} {row['Impressions_EN']}" for row in reports]
    scores = scores_of([labels[row["VolumeToAnnotate"]] for row in reports], texts)
    assert scores["precision_micro"] > 0.92 and scores["recall_micro"] > 0.95
    assert scores["f1_macro"] > 0.90
