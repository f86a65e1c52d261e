import numpy as np
import pytest

from ctvlm.evaluation import ReportGenerationMetric
from ctvlm.evaluation.functional import (
    bleu,
    clinical_scores,
    constant_clinical_scores,
    constant_report,
    constant_reports,
)


def test_constant_report_beats_every_other_constant():
    rng = np.random.default_rng(0)
    for _ in range(20):
        references = [" ".join(rng.choice(list("abcd"), rng.integers(4, 12))) for _ in range(8)]
        scores = {text: bleu([text] * 8, references)["BLEU-4"] for text in references}
        assert scores[constant_report(references)] == max(scores.values())
    assert constant_report([]) == ""
    assert constant_report(["x y"] * 300) == "x y"


def test_constant_report_does_not_depend_on_the_own_reference():
    rng = np.random.default_rng(2)
    references = [" ".join(rng.choice(list("abcd"), rng.integers(4, 12))) + f" {case}" for case in range(9)]
    reports = constant_reports(references)
    assert len(reports) == 9
    assert not any(report == reference for report, reference in zip(reports, references, strict=True))
    for case in range(9):
        changed = [*references[:case], "something else", *references[case + 1 :]]
        assert constant_reports(changed)[case] == reports[case]
    assert constant_reports(["x y"] * 4) == ["x y"] * 4
    assert constant_reports([]) == []
    assert constant_reports(["alone"]) == [""]  # the other half is empty


def test_no_set_of_findings_beats_the_constant_scores():
    rng = np.random.default_rng(1)
    for _ in range(50):
        truth = (rng.random((12, 4)) < rng.random(4)).astype(float)
        truth[rng.random(truth.shape) < 0.1] = np.nan
        if not np.nansum(truth):
            continue
        best = constant_clinical_scores(truth)
        for code in range(1, 16):
            predicted = np.tile([code >> i & 1 for i in range(4)], (12, 1)).astype(float)
            scores = clinical_scores(truth, predicted)
            assert all(scores[f"f1_{mean}"] <= best[f"f1_{mean}"] + 1e-9 for mean in ("macro", "weighted"))
            if not np.isnan(truth).any():
                assert scores["f1_micro"] <= best["f1_micro"] + 1e-9


def samples():
    texts = ["Mild emphysema. No pleural effusion.", "No pleural effusion. The heart is normal.", "Normal chest CT."]
    labels = [{"Emphysema": 1, "Lung nodule": 0}, {"Emphysema": 0, "Lung nodule": 0}, {"Emphysema": 0}]
    return [
        dict(case_id=str(i), findings=text, impression="", pred_report=text, labels=known)
        for i, (text, known) in enumerate(zip(texts, labels, strict=True))
    ]


def evaluate(**options):
    metric = ReportGenerationMetric(**options)
    metric.process(None, samples())
    return metric.evaluate(3)


def test_metric_labels_reports_and_adds_the_baseline():
    scores = evaluate(label_reports=True, baseline=True)
    assert scores["report/f1_micro"] == scores["report/BLEU-4"] == 1
    assert scores["report/f1_micro_chance"] == pytest.approx(0.5)  # emphysema in all three reports, correct in one
    assert 0 < scores["report/BLEU-4_chance"] < 0.7
    assert scores["report/baseline"] == "constant report" and "report/baseline" not in evaluate()
    assert {name for name in scores if name.endswith("_chance")} == {
        f"report/{name}_chance"
        for name in ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-1", "ROUGE-2", "ROUGE-L")
        + tuple(f"{kind}_{mean}" for kind in ("precision", "recall", "f1") for mean in ("micro", "macro", "weighted"))
    }
    assert not any("f1" in name or "chance" in name for name in evaluate())


def test_given_labels_have_priority_over_rules():
    metric = ReportGenerationMetric(label_reports=True)
    metric.process(None, [sample | {"pred_report_labels": {"Emphysema": 0}} for sample in samples()])
    assert metric.evaluate(3)["report/f1_micro"] == 0
