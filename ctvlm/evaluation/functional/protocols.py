"""Classification scores under a protocol of ``zero_shot_protocols``.

Published numbers of one model differ by more than ten points between protocols.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from ctvlm.evaluation.functional.calibration import brier_score, expected_calibration_error
from ctvlm.evaluation.functional.classification import (
    DECISION_SCORES,
    THRESHOLDS,
    auroc,
    average_precision,
    decision_scores,
)
from ctvlm.evaluation.functional.crg import crg_score
from ctvlm.evaluation.functional.zero_shot_protocols import Protocol

# Scores without a threshold.
THRESHOLD_FREE = {
    "auroc": auroc,
    "ap": average_precision,
    "brier": brier_score,
    "ece": expected_calibration_error,
}


def fit_thresholds(protocol: Protocol, truth_NC: np.ndarray, probability_NC: np.ndarray) -> np.ndarray:
    """Threshold of each finding by the protocol's rule (C).

    NaN for a finding with one class; infinity if no case should be positive.
    """
    if not isinstance(protocol.threshold, str):
        return np.full(truth_NC.shape[1], float(protocol.threshold))
    rule = THRESHOLDS[protocol.threshold]
    return np.array([rule(t, p) for t, p in zip(truth_NC.T, probability_NC.T, strict=True)])


def finding_scores(
    protocol: Protocol, truth_NC: np.ndarray, probability_NC: np.ndarray, thresholds_C: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Scores of each finding: name to values (C).

    Args:
        truth_NC: 1, 0 or NaN (unknown).
        probability_NC: probability that the finding is present.
        thresholds_C: thresholds from a dev split, for protocols with ``threshold_from='dev'``; scores that need a
            threshold are NaN without them. Other protocols ignore them.
    """
    if protocol.threshold_from != "dev":
        thresholds_C = fit_thresholds(protocol, truth_NC, probability_NC)
    elif thresholds_C is None:
        thresholds_C = np.full(truth_NC.shape[1], np.nan)
    scores: dict[str, list[float]] = {name: [] for name in protocol.scores if name != "crg"}
    for truth, probability, threshold in zip(truth_NC.T, probability_NC.T, thresholds_C, strict=True):
        decisions = _decision_scores(protocol, truth, probability, threshold)
        for name in scores:
            value = THRESHOLD_FREE[name](truth, probability) if name in THRESHOLD_FREE else decisions[name]
            scores[name].append(value)
    return {name: np.array(values) for name, values in scores.items()}


def _decision_scores(
    protocol: Protocol, truth: np.ndarray, probability: np.ndarray, threshold: float
) -> dict[str, float]:
    """Decision scores of one finding; NaN if the threshold is NaN."""
    if np.isnan(threshold):
        return dict.fromkeys(DECISION_SCORES, float("nan"))
    # If Youden's threshold is infinite, RadFinder uses 0.5, but reads recall and specificity from the ROC curve.
    finite = 0.5 if np.isinf(threshold) else threshold
    positive = probability > finite if protocol.strict else probability >= finite
    scores = decision_scores(truth, positive.astype(float), protocol.zero_division, protocol.one_class)
    return scores | {"recall": 0.0, "specificity": 1.0} if np.isinf(threshold) else scores


def protocol_scores(
    protocol: Protocol, truth_NC: np.ndarray, probability_NC: np.ndarray, thresholds_C: np.ndarray | None = None
) -> dict[str, float]:
    """Mean of each score over the findings for which it is defined; NaN if it is defined for no finding.

    ``<score>_prevalence`` weights the findings by their number of positives. Arguments as in ``finding_scores``.
    """
    by_finding = finding_scores(protocol, truth_NC, probability_NC, thresholds_C)
    positives = np.nansum(truth_NC, axis=0)
    scores = {name: mean_defined(values) for name, values in by_finding.items()}
    for name in protocol.by_prevalence:
        scores[f"{name}_prevalence"] = mean_defined(by_finding[name], positives)
    if "crg" in protocol.scores:
        known = ~np.isnan(truth_NC)
        scores["crg"] = crg_score(truth_NC[known], (probability_NC[known] >= protocol.threshold).astype(float))
    return scores


def mean_defined(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean of the values that are not NaN; NaN without such values, or if their weights are 0."""
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    keep = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[keep], weights=weights[keep])) if keep.any() else float("nan")


def thresholds_for(names: Sequence[str], thresholds: Mapping[str, float | None]) -> np.ndarray:
    """Thresholds in the order of the findings (C); NaN, with a warning, for a finding without a threshold."""
    values = [thresholds.get(name) for name in names]
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        warnings.warn(f"No threshold for {', '.join(missing)}: decision scores exclude these findings.", stacklevel=2)
    return np.array([np.nan if value is None else float(value) for value in values])
