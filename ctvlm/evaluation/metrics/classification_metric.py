"""Classification of findings by published protocols."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.protocols import (
    THRESHOLD_FREE,
    finding_scores,
    fit_thresholds,
    protocol_scores,
    thresholds_for,
)
from ctvlm.evaluation.functional.zero_shot_protocols import get_protocol
from ctvlm.evaluation.metrics.case_metric import CaseMetric
from ctvlm.registry import METRICS
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.utils import atomic_write


@METRICS.register_module()
class ClassificationMetric(CaseMetric):
    """Scores of a classifier's probabilities under a protocol (``ctvlm``, ``vlm3d``, ...), averaged over findings.

    Reads ``labels`` (finding to 1, 0 or None) and ``pred_probabilities`` (finding to probability). Also reports
    ``protocol`` and ``threshold_rule`` as text.

    Args:
        protocol: name of a protocol in ``functional.zero_shot_protocols``, which defines thresholds and scores.
        names: findings, CT-RATE's 18 by default. A protocol may score only some of them.
        thresholds: finding to threshold, or the path of a JSON file, from a dev split (protocol ``ctvlm``). With
            ``dev``, ``tools/test.py`` fits them on the validation data first. Scores that need a threshold are NaN
            without them.
        save_thresholds: path of a JSON file for thresholds that are fitted on this split, for a run on the dev split.
        per_finding: also report the scores of each finding, its number of labelled cases, and as text why a score is
            NaN (``<finding>/<score>_reason``).

    Raises:
        ValueError: the protocol is unknown, or scores none of the findings.
    """

    default_prefix = "classification"
    needs = frozenset({"labels", "pred_probabilities"})

    def __init__(
        self,
        protocol: str = "ctvlm",
        names: Sequence[str] | None = None,
        thresholds: Mapping[str, float | None] | str | None = None,
        save_thresholds: str | None = None,
        per_finding: bool = False,
        prefix: str | None = None,
        **kwargs,
    ):
        super().__init__(prefix=prefix or f"{self.default_prefix}_{protocol}", **kwargs)
        self.protocol = get_protocol(protocol)
        names = list(CT_RATE_LABELS if names is None else names)
        self.names = self.protocol.select(names)
        if not self.names:
            raise ValueError(
                f"Protocol {protocol} scores none of the findings {names}; expected some of {self.protocol.findings}."
            )
        self.thresholds = thresholds
        self.save_thresholds = save_thresholds
        self.per_finding = per_finding

    def record(self, sample: dict) -> dict[str, Any]:
        labels = [sample["labels"].get(name) for name in self.names]
        truth = np.array([np.nan if label is None else float(label) for label in labels])
        return {"truth": truth, "probability": self.probabilities(sample)}

    def probabilities(self, sample: dict) -> np.ndarray:
        """Probability of each finding (C); NaN for an unlabelled finding without probability."""
        probabilities, labels = sample.get("pred_probabilities"), sample["labels"]
        if probabilities is None:
            raise ValueError(
                f"Case {sample['case_id']} has no pred_probabilities. Add a ClassificationHead to the model, or use "
                "ZeroShotClassificationMetric to classify by prompts."
            )
        missing = [name for name in self.names if labels.get(name) is not None and name not in probabilities]
        if missing:
            raise ValueError(f"Case {sample['case_id']} has a label but no probability of {missing[0]!r}.")
        return np.array([float(probabilities.get(name, np.nan)) for name in self.names])

    def score(self, cases: list[dict[str, Any]]) -> Mapping[str, float | str]:
        truth_NC, probability_NC = (
            np.array([case[key] for case in cases]).reshape(-1, len(self.names)) for key in ("truth", "probability")
        )
        names = self.names
        if self.protocol.fold is not None:
            names, truth_NC, probability_NC = self.protocol.fold(names, truth_NC, probability_NC)
        if self.save_thresholds and cases:
            fitted = fit_thresholds(self.protocol, truth_NC, probability_NC)
            values = {n: float(t) if np.isfinite(t) else None for n, t in zip(names, fitted, strict=True)}
            with atomic_write(self.save_thresholds) as path:
                path.write_text(json.dumps(values, indent=2), encoding="utf-8")
        thresholds_C = self._thresholds(names)

        def summary(index: np.ndarray) -> dict[str, float]:
            return protocol_scores(self.protocol, truth_NC[index], probability_NC[index], thresholds_C)

        metrics: dict[str, Any] = dict(self.with_intervals(summary, [case["patient_id"] for case in cases]))
        if self.per_finding:
            scores = finding_scores(self.protocol, truth_NC, probability_NC, thresholds_C)
            for number, finding in enumerate(names):
                for name, values_C in scores.items():
                    metrics[f"{finding}/{name}"] = value = float(values_C[number])
                    if np.isnan(value):
                        metrics[f"{finding}/{name}_reason"] = _nan_reason(truth_NC[:, number], name)
                metrics[f"{finding}/num_cases"] = int((~np.isnan(truth_NC[:, number])).sum())
        both = ((truth_NC == 1).any(axis=0) & (truth_NC == 0).any(axis=0)).sum()
        description = {"protocol": self.protocol.name, "threshold_rule": self.protocol.threshold_rule}
        return {**metrics, "num_cases": len(cases), "findings_scored": int(both), **description}

    def _thresholds(self, names: Sequence[str]) -> np.ndarray | None:
        thresholds = None if self.thresholds == "dev" else self.thresholds
        if isinstance(thresholds, str):
            thresholds = json.loads(Path(thresholds).read_text(encoding="utf-8"))
        return None if thresholds is None else thresholds_for(names, thresholds)


def _nan_reason(truth_N: np.ndarray, score: str) -> str:
    """Why the score of a finding is NaN."""
    known = truth_N[~np.isnan(truth_N)]
    if not len(known):
        return "no labels"
    if not known.any() or known.all():
        return "no negatives" if known.all() else "no positives"
    return "undefined" if score in THRESHOLD_FREE else "no threshold, or no positive prediction"
