"""Classification scores of one finding.

ROC curves come from scikit-learn; these functions define the values that it leaves undefined.

Labels are 1, 0 or NaN (unknown). Cases without a label are excluded. A score that is not finite is an error, because
excluding it would let a model skip difficult cases.
"""

from __future__ import annotations

import numpy as np

DECISION_SCORES = ("f1", "f1_weighted", "accuracy", "balanced_accuracy", "precision", "recall", "specificity")


def labelled(truth_N: np.ndarray, score_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (int) and scores (double) of the cases that have a label.

    Raises:
        ValueError: a label is not 1, 0 or NaN, a score is not finite, or the lengths differ.
    """
    truth, score = np.asarray(truth_N, dtype=np.float64), np.asarray(score_N, dtype=np.float64)
    if truth.shape != score.shape or truth.ndim != 1:
        raise ValueError(f"Labels have shape {truth.shape}, scores have shape {score.shape}; expected (N) for both.")
    known = ~np.isnan(truth)
    if not np.isin(truth[known], (0, 1)).all():
        odd = truth[known][~np.isin(truth[known], (0, 1))][0]
        raise ValueError(f"Found label {odd:g}; expected 1, 0 or NaN.")
    if not np.isfinite(score[known]).all():
        raise ValueError(
            f"{int((~np.isfinite(score[known])).sum())} of {int(known.sum())} scores are NaN or infinite; every "
            "labelled case needs a finite score."
        )
    return truth[known].astype(int), score[known]


def auroc(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Area under the ROC curve. A tie counts 0.5, so that a constant score gives 0.5. NaN for one class only."""
    from scipy.stats import rankdata  # takes long to import

    truth, score = labelled(truth_N, score_N)
    positives, negatives = int(truth.sum()), int((1 - truth).sum())
    if not (positives and negatives):
        return float("nan")
    # Mann-Whitney U, see the comment in decision_scores.
    wins = rankdata(score)[truth == 1].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def average_precision(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Average precision without interpolation. A constant score gives the prevalence. NaN for one class only."""
    truth, score = labelled(truth_N, score_N)
    if not 0 < truth.sum() < len(truth):
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # of the cases with each score
    hits = truth[order].cumsum()[last]
    return float((hits / (last + 1) * np.diff(hits, prepend=0)).sum() / hits[-1])


def decision_scores(
    truth_N: np.ndarray, predicted_N: np.ndarray, zero_division: float = float("nan"), one_class: bool = False
) -> dict[str, float]:
    """``DECISION_SCORES`` of binary predictions.

    ``f1`` is the F1 of the positive class. ``f1_weighted`` is the mean F1 of both classes, weighted by their number of
    cases. CT-CLIP and RadFinder report it as F1; it is near 1 for any rare finding. ``balanced_accuracy`` is the mean
    of recall and specificity. All scores are NaN without labelled cases.

    Args:
        zero_division: value of a ratio with denominator 0, such as precision without positive predictions. F1 is 0 in
            that case if there are positives.
        one_class: also score labels of a single class; otherwise only accuracy is defined for them. Balanced accuracy
            is always NaN for one class.

    Raises:
        ValueError: a prediction is not 0 or 1; see ``labelled`` for the labels.
    """
    truth, predicted = labelled(truth_N, predicted_N)
    if not np.isin(predicted, (0, 1)).all():
        raise ValueError("Found predictions other than 0 and 1. Apply a threshold first.")
    scores = dict.fromkeys(DECISION_SCORES, float("nan"))
    if len(truth) == 0:
        return scores
    # Computed from the confusion matrix, because the bootstrap of 18 findings evaluates each score 18,000 times and
    # scikit-learn's functions take 10 ms together, and 8 ms for AUROC, average precision and Brier score. The tests
    # compare both.
    positive = predicted == 1
    tp, fn = float((truth * positive).sum()), float((truth * ~positive).sum())
    fp, tn = float(((1 - truth) * positive).sum()), float(((1 - truth) * ~positive).sum())
    positives, negatives = tp + fn, fp + tn

    def ratio(part: float, whole: float) -> float:
        return part / whole if whole else zero_division

    scores["accuracy"] = (tp + tn) / len(truth)
    if (positives and negatives) or one_class:
        scores["f1"] = ratio(2 * tp, 2 * tp + fp + fn)
        # A class without cases has weight 0.
        classes = [(positives, 2 * tp, fp + fn), (negatives, 2 * tn, fp + fn)]
        scores["f1_weighted"] = sum(n * twice / (twice + wrong) for n, twice, wrong in classes if n) / len(truth)
        scores["precision"] = ratio(tp, tp + fp)
        scores["recall"] = ratio(tp, positives)
        scores["specificity"] = ratio(tn, negatives)
    if positives and negatives:
        scores["balanced_accuracy"] = (scores["recall"] + scores["specificity"]) / 2
    return scores


def nearest_corner_threshold(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Threshold whose point on the exact ROC curve is nearest to (0, 1); positive is score >= threshold.

    Unlike ``grid_corner_threshold``, it does not depend on the scale of the scores. The highest of equally near
    thresholds is returned. It is finite, and above all scores if no case should be positive. NaN for one class only.
    """
    from sklearn.metrics import roc_curve

    truth, score = labelled(truth_N, score_N)
    if not 0 < truth.sum() < len(truth):
        return float("nan")
    fpr, tpr, thresholds = roc_curve(truth, score, drop_intermediate=False)
    best = thresholds[np.argmin(fpr**2 + (1 - tpr) ** 2)]
    return float(best) if np.isfinite(best) else float(np.nextafter(score.max(), np.inf))


def grid_corner_threshold(truth_N: np.ndarray, probability_N: np.ndarray) -> float:
    """CT-CLIP's threshold: of 100 values from 0 to 1, the one nearest to (0, 1) in the ROC plane.

    Positive is probability > threshold. The last of equally near thresholds is returned. Probabilities between two
    neighbouring grid values are not distinguished, so the result depends on the logit scale. NaN for one class only.

    Source: find_threshold in scripts/bootstrap_values.py of github.com/ibrahimethemhamamci/CT-CLIP; fVLM and HLIP use
    the same rule.
    """
    truth, probability = labelled(truth_N, probability_N)
    if not 0 < truth.sum() < len(truth):
        return float("nan")
    grid = np.linspace(0, 1, 100)
    # The same arithmetic as the published code, because rounding decides which distances are equal.
    tpr, fpr = (
        (len(values) - np.searchsorted(np.sort(values), grid, side="right")) / len(values)
        for values in (probability[truth == 1], probability[truth == 0])
    )
    distance = np.sqrt((1 - tpr) ** 2 + fpr**2)
    return float(grid[np.flatnonzero(distance == distance.min())[-1]])


def youden_threshold(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Threshold with the greatest sensitivity + specificity (Youden's J); positive is score >= threshold.

    The highest of equally good thresholds is returned; infinity (no case is positive) if no threshold has J > 0. NaN
    for one class only.
    """
    from sklearn.metrics import roc_curve

    truth, score = labelled(truth_N, score_N)
    if not 0 < truth.sum() < len(truth):
        return float("nan")
    # RadFinder calls roc_curve with the default arguments.
    fpr, tpr, thresholds = roc_curve(truth, score)
    return float(thresholds[np.argmax(tpr - fpr)])


def best_f1_threshold(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """Threshold with the greatest F1; positive is score >= threshold. NaN for one class only."""
    truth, score = labelled(truth_N, score_N)
    if not 0 < truth.sum() < len(truth):
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last_of_ties = np.append(np.diff(score[order]) != 0, True)
    true_positives = np.cumsum(truth[order])[last_of_ties]
    positives = (np.arange(len(score)) + 1)[last_of_ties]
    return float(score[order][last_of_ties][np.argmax(2 * true_positives / (positives + truth.sum()))])


THRESHOLDS = {
    "nearest_corner": nearest_corner_threshold,
    "grid_corner": grid_corner_threshold,
    "youden": youden_threshold,
    "best_f1": best_f1_threshold,
}
