import json
import math
import os
import shutil
import time

import numpy as np
import pytest

from ctvlm.evaluation import ReportGenerationMetric, VLM3DReportMetric
from ctvlm.evaluation.functional import (
    crg_score,
    vlm3d_clean,
    vlm3d_label_scores,
    vlm3d_reports,
    vlm3d_text_scores,
)
from ctvlm.evaluation.submissions import read_submission, score_reports, write_reports
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.utils import CTVLMError

REFERENCES = [
    "Findings: The trachea is open . No nodule.\nImpression: Normal .",
    "Findings: A 4 mm nodule is seen in the right lung.",
    "Findings: Pleural effusion on the left side. Impression: Effusion.",
]
PREDICTIONS = [
    'Findings: The trachea is open . No "nodule" . <|eot_id|>',
    "Findings: A nodule is seen in the left_lung.",
    "Findings: The trachea is open.",
]
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs Java")


@pytest.fixture
def no_java(monkeypatch):
    monkeypatch.setattr(vlm3d_reports.shutil, "which", lambda name: None)


def direct(name, truth, predicted):
    """Score of pycocoevalcap on cleaned texts."""
    module = pytest.importorskip(f"pycocoevalcap.{name}.{name}")
    scorer = getattr(module, name.capitalize())()
    truth, predicted = ({number: [text] for number, text in enumerate(texts)} for texts in (truth, predicted))
    return scorer.compute_score(truth, predicted)[0]


def test_cleaned_text_equals_that_of_the_challenge():
    assert vlm3d_clean(REFERENCES[0]) == "Findings: The trachea is open.No nodule.Impression: Normal."
    assert vlm3d_clean(PREDICTIONS[0], generated=True) == "Findings: The trachea is open.No nodule."
    assert vlm3d_clean('a_b "c"') == 'a_b "c"'


def test_scores_equal_pycocoevalcap(no_java):
    truth = [vlm3d_clean(text) for text in REFERENCES]
    predicted = [vlm3d_clean(text, generated=True) for text in PREDICTIONS]
    with pytest.warns(UserWarning, match="java"):
        scores = vlm3d_text_scores(PREDICTIONS, REFERENCES)
    bleu = direct("bleu", truth, predicted)
    assert [scores[f"BLEU_{n}"] for n in range(1, 5)] == pytest.approx(bleu)
    assert scores["BLEU_mean"] == pytest.approx(np.mean(bleu))
    assert scores["ROUGE_L"] == pytest.approx(direct("rouge", truth, predicted))
    assert scores["CIDEr"] == pytest.approx(direct("cider", truth, predicted))
    assert scores["CIDEr"] > 0 and math.isnan(scores["METEOR"])


@pytest.mark.filterwarnings("ignore:METEOR")
def test_known_scores(no_java):
    # Tokens are separated by spaces, so 'lung.' is not 'lung': three of four unigrams and two of three bigrams match.
    scores = vlm3d_text_scores(["a b c lung"], ["a b c lung."])
    assert scores["BLEU_1"] == pytest.approx(3 / 4)
    assert scores["BLEU_2"] == pytest.approx(math.sqrt(3 / 4 * 2 / 3))
    assert scores["ROUGE_L"] == pytest.approx(3 / 4)
    short = vlm3d_text_scores(["a b"], ["a b c d"])
    assert short["BLEU_1"] == pytest.approx(math.exp(1 - 4 / 2))
    assert all(math.isnan(value) for value in vlm3d_text_scores([], []).values())
    assert vlm3d_text_scores(["", "a b"], ["a b", "a b"])["ROUGE_L"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="2 .* 1 "):
        vlm3d_text_scores(["a", "b"], ["a"])


@pytest.mark.slow
@needs_java
def test_meteor_equals_pycocoevalcap():
    scores = vlm3d_text_scores(PREDICTIONS, REFERENCES)
    truth = [vlm3d_clean(text) for text in REFERENCES]
    predicted = [vlm3d_clean(text, generated=True) for text in PREDICTIONS]
    assert 0 < scores["METEOR"] < 1
    assert scores["METEOR"] == pytest.approx(direct("meteor", truth, predicted))
    # Empty reports and carriage returns do not interrupt the communication with the process.
    assert vlm3d_text_scores(["", "a\rb c"], ["a b", "a b\rc"])["METEOR"] > 0


@pytest.mark.skipif(os.name == "nt", reason="the fake java is a shell script")
@pytest.mark.parametrize(
    ("script", "start_s", "message"), [("exec sleep 600", 0.0, "METEOR.* 1 s"), ("exit 1", 300.0, "METEOR.*failed")]
)
def test_java_that_times_out_or_fails(monkeypatch, tmp_path, script, start_s, message):
    pytest.importorskip("pycocoevalcap")
    (tmp_path / "java").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(vlm3d_reports, "_METEOR_START_S", start_s)
    started = time.monotonic()
    with pytest.raises(CTVLMError, match=message) as caught:
        vlm3d_text_scores(["a"], ["a"])
    assert "\n" not in str(caught.value)
    del caught
    assert time.monotonic() - started < 240


def test_a_finding_without_positives_scores_zero():
    truth = np.array([[1, 0, 0], [1, 0, 1.0]])
    predicted = np.array([[1, 1, 0], [0, 0, 1.0]])
    scores = vlm3d_label_scores(truth, predicted)
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert scores["precision_macro"] == pytest.approx((1 + 0 + 1) / 3)
    assert scores["recall_macro"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert scores["accuracy_macro"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert scores["crg"] == pytest.approx(crg_score(truth, predicted))
    assert vlm3d_label_scores(np.ones((2, 3)), np.ones((2, 3)))["crg"] == 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_label_scores_equal_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    rng = np.random.default_rng(0)
    for _ in range(2):
        truth, predicted = (rng.random((6, 18)) < 0.2 for _ in range(2))
        scores = vlm3d_label_scores(truth, predicted)
        for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            expected = np.mean([function(t, p) for t, p in zip(truth.T, predicted.T, strict=True)])
            assert scores[f"{name}_macro"] == pytest.approx(expected)
        expected = np.mean([accuracy_score(t, p) for t, p in zip(truth.T, predicted.T, strict=True)])
        assert scores["accuracy_macro"] == pytest.approx(expected)
    assert all(math.isnan(value) for value in vlm3d_label_scores(np.full((2, 3), np.nan), predicted[:2, :3]).values())


def cases():
    labels = [dict.fromkeys(CT_RATE_LABELS, 0) | {"Lung nodule": number % 2} for number in range(3)]
    return [
        dict(case_id=f"case_{number}", pred_report=PREDICTIONS[number], findings="A nodule.", impression="Nodule.",
             labels=labels[number], pred_report_labels=labels[number])
        for number in range(3)
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:METEOR")
def test_metric_has_its_own_names(no_java):
    other, metric = ReportGenerationMetric(), VLM3DReportMetric()
    for each in (other, metric):
        each.process(None, cases())
    results = metric.evaluate(3)
    assert not set(results) & set(other.evaluate(3))
    assert {name.partition("/")[0] for name in results} == {"report_vlm3d"}
    assert results["report_vlm3d/f1_macro"] == pytest.approx(1 / 18)
    assert results["report_vlm3d/crg"] == 1
    expected = vlm3d_text_scores(PREDICTIONS, ["Findings: A nodule. Impression: Nodule."] * 3)
    assert results["report_vlm3d/BLEU_1"] == pytest.approx(expected["BLEU_1"])
    assert metric.metric_names() == list(results)


@pytest.mark.filterwarnings("ignore:METEOR")
def test_example_reports_have_perfect_scores(no_java, shared_data, tmp_path):
    truth = read_submission(shared_data / "text" / "vlm3d" / "report_generation_example" / "ground_truth.json")
    references = {entry["input_image_name"]: entry["report"] for entry in truth["generated_reports"]}
    write_reports(tmp_path / "same.json", references, suffix=".mha")
    scores = score_reports(read_submission(tmp_path / "same.json"), references)
    assert scores["BLEU_4"] == pytest.approx(1) and scores["ROUGE_L"] == pytest.approx(1)
    content = json.loads((tmp_path / "same.json").read_text())
    with pytest.raises(ValueError, match="other"):
        score_reports(content, {**references, "other": "A report."})
