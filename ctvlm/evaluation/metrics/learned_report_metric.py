"""Learned scores of generated reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctvlm.evaluation.metrics.case_metric import CaseMetric
from ctvlm.registry import METRICS, REPORT_SCORERS


@METRICS.register_module()
class LearnedReportMetric(CaseMetric):
    """Mean of learned scores over reports (``report_learned/<scorer>``).

    Reads ``pred_report``, ``findings`` and ``impression`` (str). The reference is the findings followed by the
    impression. Cases without both are excluded.

    Args:
        scorers: configs of ``REPORT_SCORERS``, such as ``[dict(type="RaTEScore")]``.
    """

    default_prefix = "report_learned"
    needs = frozenset({"pred_report", "findings", "impression"})
    optional_needs = frozenset({"findings", "impression"})

    def __init__(self, scorers: Sequence[dict[str, Any]], **kwargs: Any):
        super().__init__(**kwargs)
        self.scorers = [REPORT_SCORERS.build(scorer) for scorer in scorers]

    def record(self, sample: dict) -> dict[str, Any] | None:
        reference = " ".join(sample.get(field) or "" for field in ("findings", "impression")).strip()
        return {"reference": reference, "report": sample["pred_report"]} if reference else None

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        reports, references = [case["report"] for case in cases], [case["reference"] for case in cases]
        scores = {each.name: each.score(reports, references) if cases else np.zeros(0) for each in self.scorers}
        for name, values in scores.items():
            if np.shape(values) != (len(cases),):
                raise ValueError(f"{name}: found scores of shape {np.shape(values)}; expected ({len(cases)},).")

        def summary(index: np.ndarray) -> dict[str, float]:
            return {name: float(v[index].mean()) if len(index) else float("nan") for name, v in scores.items()}

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        return {**metrics, "num_cases": len(cases)}
