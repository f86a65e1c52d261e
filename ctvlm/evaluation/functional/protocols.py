"""How classification is scored by a protocol.

Published numbers of one model differ by more than ten points between protocols. ``zero_shot_protocols`` lists them.
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

# Scores that need no threshold.
THRESHOLD_FREE = {
    "auroc": auroc,
    "ap": average_precision,
    "brier": brier_score,
    "ece": expected_calibration_error,
}


def fit_thresholds(protocol: Protocol, truth_NC: np.ndarray, probability_NC: np.ndarray) -> np.ndarray:
    """Threshold of each finding by the protocol's rule (C).

    NaN for a finding with one class; infinite where nothing should be called present.
    """
    if not isinstance(protocol.threshold, str):
        return np.full(truth_NC.shape[1], float(protocol.threshold))
    rule = THRESHOLDS[protocol.threshold]
    return np.array([rule(t, p) for t, p in zip(truth_NC.T, probability_NC.T, strict=True)])


def finding_scores(
    protocol: Protocol, truth_NC: np.ndarray, probability_NC: np.ndarray, thresholds_C: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Each reported score of each finding (C).

    Args:
        truth_NC: 1, 0, NaN (null).
        probability_NC: probability of presence.
        thresholds_C: thresholds from a dev split; a protocol that takes them from there has NaN for the scores that
            need them where there are none. Protocols with thresholds of their own ignore them.
    """
    if protocol.threshold_from != "dev":
        thresholds_C = fit_thresholds(protocol, truth_NC, probability_NC)
    elif thresholds_C is None:
        thresholds_C = np.full(truth_NC.shape[1], np.nan)
    scores: dict[str, list[float]] = {name: [] for name in protocol.scores if name != "crg"}
    for truth, probability, threshold in zip(truth_NC.T, probability_NC.T, thresholds_C, strict=True):
        decided = _decided(protocol, truth, probability, threshold)
        for name in scores:
            value = THRESHOLD_FREE[name](truth, probability) if name in THRESHOLD_FREE else decided[name]
            scores[name].append(value)
    return {name: np.array(values) for name, values in scores.items()}


def _decided(protocol: Protocol, truth: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """Decision scores of one finding at its threshold; NaN without one."""
    if np.isnan(threshold):
        return dict.fromkeys(DECISION_SCORES, float("nan"))
    # RadFinder decides at 0.5 where Youden's threshold is infinite, but reads recall and specificity off the ROC curve.
    at = 0.5 if np.isinf(threshold) else threshold
    present = probability > at if protocol.strict else probability >= at
    scores = decision_scores(truth, present.astype(float), protocol.zero_division, protocol.one_class)
    return scores | {"recall": 0.0, "specificity": 1.0} if np.isinf(threshold) else scores


def protocol_scores(
    protocol: Protocol, truth_NC: np.ndarray, probability_NC: np.ndarray, thresholds_C: np.ndarray | None = None
) -> dict[str, float]:
    """The protocol's scores, each the mean over the findings for which it is defined; NaN where there are none.

    ``<score>_prevalence`` weights findings by their positives instead. Arguments as in
    ``finding_scores``.
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
    """Mean of the values that are not NaN; NaN where there are none, or none has weight."""
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    keep = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[keep], weights=weights[keep])) if keep.any() else float("nan")


def thresholds_for(names: Sequence[str], thresholds: Mapping[str, float | None]) -> np.ndarray:
    """Thresholds in the order of the findings (C); NaN, with a warning, for a finding that has none."""
    missing = [name for name in names if thresholds.get(name) is None]
    if missing:
        warnings.warn(
            f"No threshold for {', '.join(missing)}: their threshold-dependent scores are left out.", stacklevel=2
        )
    return np.array([np.nan if thresholds.get(name) is None else float(thresholds[name]) for name in names])
