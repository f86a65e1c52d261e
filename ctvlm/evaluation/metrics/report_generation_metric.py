"""Scores of generated reports."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.constant_report import constant_clinical_scores, constant_reports
from ctvlm.evaluation.functional.crg import crg_score
from ctvlm.evaluation.functional.report_generation import (
    bleu,
    bleu_counts,
    bleu_of_counts,
    clinical_scores,
    rouge,
    rouge_per_report,
)
from ctvlm.evaluation.functional.report_labels import report_labels
from ctvlm.evaluation.metrics.case_metric import CaseMetric
from ctvlm.registry import METRICS
from ctvlm.utils import check_choice


@METRICS.register_module()
class ReportGenerationMetric(CaseMetric):
    """BLEU and ROUGE of generated reports, and clinical scores if generated reports have labels.

    Reads ``pred_report`` (str) and the reference text; for clinical precision, recall, F1 and CRG also ``labels`` and
    ``pred_report_labels`` (finding to 1, 0 or None, from any labeller). Cases with an empty reference are excluded;
    empty generated reports are scored.

    Args:
        reference: ``findings``, ``impression``, or ``both`` (findings followed by impression).
        label_reports: label generated reports by rules (``report_labels``) in cases without ``pred_report_labels``.
        baseline: also report the scores of a constant report and of the best constant set of findings
            (``<name>_chance``, in tables ``baseline``; see ``constant_reports``).

    Raises:
        ValueError: the reference is unknown.
    """

    default_prefix = "report"
    optional_needs = frozenset({"labels", "pred_report_labels"})

    def __init__(self, reference: str = "findings", label_reports: bool = False, baseline: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        check_choice("ReportGenerationMetric", "reference", reference, ("findings", "impression", "both"))
        self._fields = ("findings", "impression") if reference == "both" else (reference,)
        self.label_reports = label_reports
        self.baseline = baseline

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({*self._fields, "pred_report"}) | self.optional_needs

    def metric_names(self) -> list[str]:
        labels = np.zeros((1, 1))
        prefix = self.prefix or self.default_prefix
        # Reported if at least one generated report has labels.
        return super().metric_names() + [f"{prefix}/{name}" for name in (*clinical_scores(labels, labels), "crg")]

    def record(self, sample: dict) -> dict[str, Any] | None:
        reference = " ".join(sample[field] for field in self._fields).strip()
        if not reference:
            return None
        predicted = sample.get("pred_report_labels")
        if predicted is None and self.label_reports:
            predicted = report_labels(sample["pred_report"])
        return {
            "reference": reference,
            "report": sample["pred_report"],
            "labels": dict(sample.get("labels") or {}),
            "predicted": dict(predicted or {}),
        }

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float | str]:
        reports, references = [case["report"] for case in cases], [case["reference"] for case in cases]
        rouge_N, bleu_N = rouge_per_report(reports, references), bleu_counts(reports, references)
        names = sorted({name for case in cases for name in case["predicted"]})
        truth_NC, predicted_NC = (
            np.array([[_label(case[key].get(name)) for name in names] for case in cases]).reshape(
                len(cases), len(names)
            )
            for key in ("labels", "predicted")
        )

        def summary(index: np.ndarray) -> dict[str, float]:
            scores = bleu_of_counts(bleu_N[index].sum(axis=0), len(index))
            scores |= {name: float(values[index].mean()) if len(index) else np.nan for name, values in rouge_N.items()}
            if names:
                scores |= clinical_scores(truth_NC[index], predicted_NC[index])
                known = ~np.isnan(predicted_NC[index])
                scores["crg"] = crg_score(truth_NC[index][known], predicted_NC[index][known])
            return scores

        metrics: dict[str, float | str] = dict(self.with_intervals(summary, [case["patient_id"] for case in cases]))
        if self.baseline:
            constant = constant_reports(references)
            chance = bleu(constant, references) | rouge(constant, references)
            chance |= constant_clinical_scores(truth_NC) if names else {}
            metrics |= {f"{name}_chance": value for name, value in chance.items()}
            return {**metrics, "num_cases": len(cases), "baseline": "constant report"}
        return {**metrics, "num_cases": len(cases)}


def _label(value: Any) -> float:
    return float("nan") if value is None else float(value)
