import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ctvlm.evaluation import LearnedReportMetric
from ctvlm.evaluation.report_scorers import ReportScorer
from ctvlm.registry import REPORT_SCORERS
from ctvlm.utils import CTVLMError

CALLS = {
    # The interface of each package, with a toy score: 1 if both texts are equal.
    "RaTEScore": ("RaTEScore", "RaTEScore", lambda self: SimpleNamespace(compute_score=lambda c, r: self(c, r))),
    "RadGraphF1": ("radgraph", "F1RadGraph", lambda self: lambda hyps, refs: (0, self(hyps, refs), [], [])),
    "BERTScore": (
        "bert_score",
        "BERTScorer",
        lambda self: SimpleNamespace(score=lambda cands, refs: (None, None, torch.tensor(self(cands, refs)))),
    ),
    "GREEN": ("green_score", "GREEN", lambda self: lambda refs, hyps: (0, 0, self(hyps, refs), None, None)),
}


def equal(predictions, references):
    return [float(text == reference) for text, reference in zip(predictions, references, strict=True)]


@pytest.mark.parametrize("name", ["RaTEScore", "RadGraphF1", "BERTScore", "GREEN"])
def test_missing_package(monkeypatch, name):
    scorer = REPORT_SCORERS.get(name)
    monkeypatch.setitem(sys.modules, scorer.module, None)
    with pytest.raises(ImportError, match=scorer.module) as caught:
        LearnedReportMetric([dict(type=name)])
    assert scorer.install in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_adapters(monkeypatch, name):
    module, builder, wrap = CALLS[name]
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{builder: lambda **kwargs: wrap(equal)}))
    metric = LearnedReportMetric([dict(type=name)])
    case = dict(findings="A.", impression="B.")
    metric.process(None, [dict(case, case_id="a", pred_report="A. B."), dict(case, case_id="b", pred_report="C.")])
    results = metric.evaluate(2)
    assert results[f"report_learned/{REPORT_SCORERS.get(name).name}"] == 0.5


def test_missing_weights(monkeypatch):
    def no_weights(**kwargs):
        raise OSError("no such\nfile")

    monkeypatch.setitem(sys.modules, "RaTEScore", SimpleNamespace(RaTEScore=no_weights))
    with pytest.raises(CTVLMError, match="RaTEScore.*OSError.*no such file") as caught:
        LearnedReportMetric([dict(type="RaTEScore")])
    assert "\n" not in str(caught.value)


def test_custom_scorer():
    class Lengths(ReportScorer):
        name, module, install = "lengths", "json", ""

        def load(self, module):
            return None

        def score(self, predictions, references):
            return np.array([float(len(text)) for text in predictions])

    REPORT_SCORERS.register_module(module=Lengths, force=True)
    try:
        metric = LearnedReportMetric([dict(type="Lengths")], bootstrap=5)
        case = dict(pred_report="abc", findings="A.", impression="")
        metric.process(None, [dict(case, case_id="a"), dict(case, case_id="b", findings="")])
        results = metric.evaluate(2)
        assert (results["report_learned/lengths"], results["report_learned/num_cases"]) == (3, 1)
    finally:
        REPORT_SCORERS.module_dict.pop("Lengths")
