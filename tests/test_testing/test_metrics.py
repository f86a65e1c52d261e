"""Every registered metric passes check_metric, and the check names what a broken metric does wrong."""

from __future__ import annotations

import pytest

from ctvlm.evaluation import CaseMetric
from ctvlm.registry import METRICS
from ctvlm.testing import check_metric
from ctvlm.text.finding_labels import CT_RATE_LABELS

OPTIONS: dict[str, dict] = {
    "AlignmentMetric": dict(bootstrap=5),
    "ClassificationMetric": dict(bootstrap=5, thresholds=dict.fromkeys(CT_RATE_LABELS, 0.5)),
    "DumpPredictions": dict(out="dump.pt"),
    "EmbeddingHealthMetric": {},
    "ImageRetrievalMetric": dict(protocol="ct_clip"),
    "LocalisationMetric": dict(bootstrap=5, per_finding=True),
    "LocationQuestionMetric": dict(findings=["nodule", "Cyst"], bootstrap=5),
    "OppositeTextMetric": dict(bootstrap=5),
    "PoolRetrievalMetric": dict(protocol="spectre"),
    "RegionReportMetric": dict(bootstrap=5, per_region=True),
    "RegionRetrievalMetric": dict(bootstrap=5),
    "RegionTextMetric": dict(bootstrap=5),
    "ReportGenerationMetric": dict(bootstrap=5),
    "RetrievalMetric": dict(bootstrap=5),
    "SliceLocalisationMetric": dict(bootstrap=5),
    "StepTextMetric": dict(bootstrap=5),
    "VLM3DReportMetric": {},
    "ZeroShotClassificationMetric": dict(protocol="ct_clip", bootstrap=5),
}
# Its scorers need other packages, see test_evaluation/test_report_scorers.py.
NEED_PACKAGES = {"LearnedReportMetric"}


def test_no_metric_is_left_out():
    registered = {name for name, cls in METRICS.module_dict.items() if cls.__module__.startswith("ctvlm.")}
    assert registered == set(OPTIONS) | NEED_PACKAGES


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_metric(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_metric(name, **OPTIONS[name])


class MeanLength(CaseMetric):
    """A correct metric: mean length of the reports."""

    default_prefix = "length"
    needs = frozenset({"pred_report"})

    def record(self, sample):
        return {"length": float(len(sample["pred_report"]))}

    def score(self, cases):
        lengths = [case["length"] for case in cases]
        return {"mean": sum(lengths) / len(lengths) if lengths else float("nan"), "num_cases": len(cases)}


class OrderMatters(MeanLength):
    def process(self, data_batch, data_samples):
        super().process(data_batch, data_samples)
        self.results[-1]["record"]["length"] += len(self.results)


class CountsRepeats(MeanLength):
    def compute_metrics(self, results):
        return self.score([result["record"] for result in results])


class UndeclaredNeed(MeanLength):
    def record(self, sample):
        return {"length": float(len(sample["pred_report"]) + len(sample["findings"]))}


class ZeroWithoutCases(MeanLength):
    def score(self, cases):
        return super().score(cases) if cases else {"mean": 0.5, "num_cases": 0}


class ChangesSample(MeanLength):
    def record(self, sample):
        sample["pred_report"] = sample["pred_report"].strip() + "."
        return super().record(sample)


class ReturnsList(MeanLength):
    def score(self, cases):
        return {"mean": [1.0]}


class NeedsOptional(MeanLength):
    needs = frozenset({"pred_report", "findings"})
    optional_needs = frozenset({"findings"})

    def record(self, sample):
        return {"length": float(len(sample["findings"]))}


class AcceptsAnonymous(MeanLength):
    def process(self, data_batch, data_samples):
        super().process(data_batch, [{"case_id": "unknown", **sample} for sample in data_samples])


def test_correct_metric():
    check_metric(MeanLength)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (OrderMatters, "order of cases"),
        (CountsRepeats, "repeated cases"),
        (UndeclaredNeed, "needs"),
        (NeedsOptional, "optional needs"),
        (ZeroWithoutCases, "no cases"),
        (ChangesSample, "inputs unchanged"),
        (ReturnsList, "plain values"),
        (AcceptsAnonymous, "case_id"),
    ],
)
def test_broken_metric(metric, name):
    with pytest.raises(AssertionError, match=f"{metric.__name__}: property '{name}'"):
        check_metric(metric)
