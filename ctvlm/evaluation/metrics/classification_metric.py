"""Classification of findings by the field's protocols."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.protocols import (
    finding_scores,
    fit_thresholds,
    get_protocol,
    protocol_scores,
    thresholds_for,
)
from ctvlm.evaluation.labels import CT_RATE_LABELS
from ctvlm.evaluation.metrics.case_metric import CaseMetric
from ctvlm.registry import METRICS


@METRICS.register_module()
class ClassificationMetric(CaseMetric):
    """Scores of a classifier's probabilities by a protocol (``ctvlm``, ``vlm3d``, ...), as means over findings.

    Reads ``labels`` (finding to 1, 0, None) and ``pred_probabilities`` (finding to probability).

    Args:
        protocol: thresholds and scores of ``functional.protocols``.
        names: findings; CT-RATE's 18 by default.
        thresholds: finding to threshold, or a JSON file of that, from a dev split (protocol ``ctvlm``). ``dev`` lets
            ``tools/test.py`` fit them on the validation data first. Without them the scores that need them are NaN.
        save_thresholds: fit the protocol's rule on this split and write that JSON file: for a run on the dev split.
        per_finding: also the scores of each finding.
    """

    default_prefix = "classification"

    def __init__(
        self,
        protocol: str = "ctvlm",
        names: Sequence[str] | None = None,
        thresholds: Mapping[str, float] | str | None = None,
        save_thresholds: str | None = None,
        per_finding: bool = False,
        prefix: str | None = None,
        **kwargs,
    ):
        super().__init__(prefix=prefix or f"{self.default_prefix}_{protocol}", **kwargs)
        self.protocol = get_protocol(protocol)
        self.names = list(CT_RATE_LABELS if names is None else names)
        self.thresholds = thresholds
        self.save_thresholds = save_thresholds
        self.per_finding = per_finding

    def record(self, sample: dict) -> dict[str, Any]:
        labels = [sample["labels"].get(name) for name in self.names]
        truth = np.array([np.nan if label is None else float(label) for label in labels])
        return {"truth": truth, "probability": self.probabilities(sample)}

    def probabilities(self, sample: dict) -> np.ndarray:
        """Probability of each finding (C); NaN where there is none."""
        given, truth = sample.get("pred_probabilities"), sample["labels"]
        if given is None:
            raise ValueError(
                f"Case {sample['case_id']} has no pred_probabilities: a ClassificationHead gives them; to classify by "
                "prompts use ZeroShotClassificationMetric."
            )
        missing = [name for name in self.names if truth.get(name) is not None and name not in given]
        if missing:
            raise ValueError(f"Case {sample['case_id']}: no probability of {missing[0]!r}, which it has a label of.")
        return np.array([float(given.get(name, np.nan)) for name in self.names])

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        truth_NC, probability_NC = (
            np.array([case[key] for case in cases]).reshape(-1, len(self.names)) for key in ("truth", "probability")
        )
        if self.save_thresholds and cases:
            fitted = fit_thresholds(self.protocol, truth_NC, probability_NC)
            values = {n: None if np.isnan(t) else float(t) for n, t in zip(self.names, fitted, strict=True)}
            Path(self.save_thresholds).parent.mkdir(parents=True, exist_ok=True)
            Path(self.save_thresholds).write_text(json.dumps(values, indent=2), encoding="utf-8")
        thresholds_C = self._thresholds()

        def summary(index: np.ndarray) -> dict[str, float]:
            return protocol_scores(self.protocol, truth_NC[index], probability_NC[index], thresholds_C)

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        if self.per_finding:
            scores = finding_scores(self.protocol, truth_NC, probability_NC, thresholds_C)
            for number, finding in enumerate(self.names):
                metrics |= {f"{finding}/{name}": float(values[number]) for name, values in scores.items()}
        both = ((truth_NC == 1).any(axis=0) & (truth_NC == 0).any(axis=0)).sum()
        return {**metrics, "num_cases": len(cases), "findings_scored": int(both)}

    def _thresholds(self) -> np.ndarray | None:
        thresholds = None if self.thresholds == "dev" else self.thresholds
        if isinstance(thresholds, str):
            thresholds = json.loads(Path(thresholds).read_text(encoding="utf-8"))
        return None if thresholds is None else thresholds_for(self.names, thresholds)
