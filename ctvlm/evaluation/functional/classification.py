"""Scores of one finding from its labels and probabilities.

Ranking scores and ROC curves are scikit-learn's; here is what they mean where they are undefined.

Labels are 1, 0 or NaN (null: not known). Cases without a label are left out of every score. A score that is not a
finite number is an error: leaving it out would let a model skip its hard cases.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

DECISION_SCORES = ("f1", "f1_weighted", "accuracy", "balanced_accuracy", "precision", "recall", "specificity")


def labelled(truth_N: np.ndarray, score_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cases that have a label: (labels as int, scores as double).

    Raises:
        ValueError: for labels other than 1, 0 and NaN, scores that are not finite, or lengths that differ.
    """
    truth, score = np.asarray(truth_N, dtype=np.float64), np.asarray(score_N, dtype=np.float64)
    if truth.shape != score.shape or truth.ndim != 1:
        raise ValueError(f"Labels of shape {truth.shape} and scores of shape {score.shape}: expected one of each (N).")
    known = ~np.isnan(truth)
    if not np.isin(truth[known], (0, 1)).all():
        odd = truth[known][~np.isin(truth[known], (0, 1))][0]
        raise ValueError(f"Found the label {odd:g}: expected 1, 0 or null.")
    if not np.isfinite(score[known]).all():
        raise ValueError(
            f"{int((~np.isfinite(score[known])).sum())} of {int(known.sum())} scores are NaN or infinite: every "
            "labelled case needs a score."
        )
    return truth[known].astype(int), score[known]


def auroc(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Area under the ROC curve; ties count one half, so that a constant score gives 0.5. NaN for one class only."""
    truth, score = labelled(truth_N, score_N)
    return float(roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else float("nan")


def average_precision(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Average precision, not interpolated; a constant score gives the prevalence. NaN for one class only.

    (With positives only, any score would give 1.)
    """
    truth, score = labelled(truth_N, score_N)
    return float(average_precision_score(truth, score)) if 0 < truth.sum() < len(truth) else float("nan")


def decision_scores(
    truth_N: np.ndarray, predicted_N: np.ndarray, zero_division: float = float("nan"), one_class: bool = False
) -> dict[str, float]:
    """``DECISION_SCORES`` of yes/no predictions.

    ``f1`` is the F1 of the positive class. ``f1_weighted`` is the mean of both classes' F1, weighted by their number
    of cases: CT-CLIP's and RadFinder's F1, near 1 for any rare finding. ``balanced_accuracy`` is the mean of recall
    and specificity.

    NaN without labelled cases.

    Args:
        zero_division: value of a ratio whose denominator is 0, such as precision where nothing is predicted present.
            F1 is 0 there if positives exist.
        one_class: score cases of one class as well. Otherwise only accuracy is defined for them. Balanced accuracy is
            NaN for one class in either case.
    """
    truth, predicted = labelled(truth_N, predicted_N)
    if not np.isin(predicted, (0, 1)).all():
        raise ValueError("Predictions must be 0 or 1: apply a threshold first.")
    scores = dict.fromkeys(DECISION_SCORES, float("nan"))
    if len(truth) == 0:
        return scores
    # From the four counts: scikit-learn's functions, one per score, take 10 ms together, and intervals of 18 findings
    # ask for them 18,000 times. The tests compare them.
    said = predicted == 1
    found, missed = float((truth * said).sum()), float((truth * ~said).sum())
    false, right = float(((1 - truth) * said).sum()), float(((1 - truth) * ~said).sum())
    positives, negatives = found + missed, false + right

    def share(part: float, whole: float) -> float:
        return part / whole if whole else zero_division

    scores["accuracy"] = (found + right) / len(truth)
    if (positives and negatives) or one_class:
        scores["f1"] = share(2 * found, 2 * found + false + missed)
        # A class without cases has no weight.
        both = [(positives, 2 * found, false + missed), (negatives, 2 * right, false + missed)]
        scores["f1_weighted"] = sum(n * twice / (twice + wrong) for n, twice, wrong in both if n) / len(truth)
        scores["precision"] = share(found, found + false)
        scores["recall"] = share(found, positives)
        scores["specificity"] = share(right, negatives)
    if positives and negatives:
        scores["balanced_accuracy"] = (scores["recall"] + scores["specificity"]) / 2
    return scores


def nearest_corner_threshold(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Threshold whose point on the exact ROC curve is nearest to (0, 1); present is score >= threshold.

    Does not depend on the scale of the scores, unlike ``grid_corner_threshold``. The highest of equally near
    thresholds; a finite number above the highest score where nothing should be called present. NaN for one class only.
    """
    truth, score = labelled(truth_N, score_N)
    if not 0 < truth.sum() < len(truth):
        return float("nan")
    fpr, tpr, thresholds = roc_curve(truth, score, drop_intermediate=False)
    best = thresholds[np.argmin(fpr**2 + (1 - tpr) ** 2)]
    return float(best) if np.isfinite(best) else float(np.nextafter(score.max(), np.inf))


def grid_corner_threshold(truth_N: np.ndarray, probability_N: np.ndarray) -> float:
    """CT-CLIP's threshold: of 100 values from 0 to 1, the one nearest to (0, 1) in the ROC plane.

    Present is probability > threshold. The last of equally near thresholds is taken. Probabilities that lie between two
    neighbouring grid values cannot be told apart, so the result depends on the logit scale. NaN for one class only.

    Source: find_threshold in scripts/bootstrap_values.py of github.com/ibrahimethemhamamci/CT-CLIP; fVLM and HLIP use
    the same rule.
    """
    truth, probability = labelled(truth_N, probability_N)
    if not 0 < truth.sum() < len(truth):
        return float("nan")
    grid = np.linspace(0, 1, 100)
    # The published arithmetic, to the last bit: it decides which distances are equal.
    tpr, fpr = (
        (len(values) - np.searchsorted(np.sort(values), grid, side="right")) / len(values)
        for values in (probability[truth == 1], probability[truth == 0])
    )
    distance = np.sqrt((1 - tpr) ** 2 + fpr**2)
    return float(grid[np.flatnonzero(distance == distance.min())[-1]])


def youden_threshold(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Threshold of the greatest sensitivity + specificity (Youden's J); present is score >= threshold.

    The highest of equally good thresholds. Infinite (nothing is present) where no threshold has J > 0. NaN for one
    class only.
    """
    truth, score = labelled(truth_N, score_N)
    if not 0 < truth.sum() < len(truth):
        return float("nan")
    # RadFinder calls roc_curve with its defaults.
    fpr, tpr, thresholds = roc_curve(truth, score)
    return float(thresholds[np.argmax(tpr - fpr)])


def best_f1_threshold(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Threshold of greatest F1 of the positive class; present is score >= threshold. NaN for one class only."""
    truth, score = labelled(truth_N, score_N)
    if not 0 < truth.sum() < len(truth):
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last_of_ties = np.append(np.diff(score[order]) != 0, True)
    found = np.cumsum(truth[order])[last_of_ties]
    said = (np.arange(len(score)) + 1)[last_of_ties]
    return float(score[order][last_of_ties][np.argmax(2 * found / (said + truth.sum()))])


THRESHOLDS = {
    "nearest_corner": nearest_corner_threshold,
    "grid_corner": grid_corner_threshold,
    "youden": youden_threshold,
    "best_f1": best_f1_threshold,
}
