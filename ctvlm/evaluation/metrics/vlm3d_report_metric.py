"""Scores of generated reports as in the VLM3D challenge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.report_labels import report_labels
from ctvlm.evaluation.functional.vlm3d_reports import vlm3d_label_scores, vlm3d_text_scores
from ctvlm.evaluation.metrics.case_metric import CaseMetric
from ctvlm.registry import METRICS
from ctvlm.text.finding_labels import CT_RATE_LABELS


@METRICS.register_module()
class VLM3DReportMetric(CaseMetric):
    """BLEU, ROUGE-L, CIDEr, METEOR, macro scores of 18 findings and CRG as computed by the VLM3D challenge.

    See ``vlm3d_text_scores`` and ``vlm3d_label_scores``. The results have the prefix ``report_vlm3d`` and cannot be
    compared with those of ``ReportGenerationMetric``. Intervals are not computed: BLEU, CIDEr and METEOR are scores of
    the whole set, and the challenge reports none.

    Reads ``pred_report``, ``findings`` and ``impression`` (str). The reference has the format of the challenge's ground
    truth, ``Findings: ... Impression: ...``, without empty sections. Cases without both are excluded. The label scores
    need ``labels`` and ``pred_report_labels`` (finding to 1, 0 or None) and are NaN without them. The challenge labels
    generated reports with a RadBERT classifier.

    Args:
        label_reports: label generated reports by rules (``report_labels``) in cases without ``pred_report_labels``.
    """

    default_prefix = "report_vlm3d"
    needs = frozenset({"pred_report", "findings", "impression", "labels", "pred_report_labels"})
    optional_needs = frozenset({"findings", "impression", "labels", "pred_report_labels"})

    def __init__(self, label_reports: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.label_reports = label_reports

    def record(self, sample: dict) -> dict[str, Any] | None:
        sections = [
            f"{field.capitalize()}: {text}"
            for field in ("findings", "impression")
            if (text := (sample.get(field) or "").strip())
        ]
        if not sections:
            return None
        predicted = sample.get("pred_report_labels")
        if predicted is None and self.label_reports:
            predicted = report_labels(sample["pred_report"])
        return {
            "reference": " ".join(sections),
            "report": sample["pred_report"],
            "labels": _row(sample.get("labels")),
            "predicted": _row(predicted),
        }

    def score(self, cases: list[dict[str, Any]]) -> Mapping[str, float | str]:
        scores = vlm3d_text_scores([case["report"] for case in cases], [case["reference"] for case in cases])
        empty = np.zeros((0, len(CT_RATE_LABELS)))
        labels = (np.stack([case[key] for case in cases]) if cases else empty for key in ("labels", "predicted"))
        return {**scores, **vlm3d_label_scores(*labels), "num_cases": len(cases), "protocol": "vlm3d"}


def _row(labels: dict[str, Any] | None) -> np.ndarray:
    """Labels of the 18 findings in order; NaN if missing or None."""
    values = [(labels or {}).get(name) for name in CT_RATE_LABELS]
    return np.array([np.nan if value is None else float(value) for value in values])
