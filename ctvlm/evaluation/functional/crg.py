"""The CRG score of the VLM3D challenge."""

from __future__ import annotations

import numpy as np


def crg_score(truth: np.ndarray, predicted: np.ndarray) -> float:
    """CRG score over all labels of all cases together (any shape): 1 if all are correct, 1/5 if all are wrong.

    With X labels of which A are positive: r = (X - A) / 2A, U = (X - A) / 2, s = r TP - r FN - FP, CRG = U / (2U - s).
    Predicting no finding and predicting every finding both score 1/3. Labels are 1, 0 or NaN (ignored).

    NaN if no label is positive (the challenge's script stops with an error); 0 if all are, as in the challenge.

    CTest-Metric (arXiv 2601.11488) found a negative correlation between CRG and expert ratings of reports. Use CRG to
    compare with the challenge, not to select a model.

    Source: crg_score.py of github.com/forithmus/VLM3D-Dockers.

    Raises:
        ValueError: the shapes differ, or a value is not 0, 1 or NaN.
    """
    truth, predicted = np.asarray(truth, dtype=np.float64).ravel(), np.asarray(predicted, dtype=np.float64).ravel()
    if truth.shape != predicted.shape:
        raise ValueError(f"Found {truth.size} labels and {predicted.size} predictions; expected equal numbers.")
    known = ~np.isnan(truth)
    truth, predicted = truth[known], predicted[known]
    if not (np.isin(truth, (0, 1)).all() and np.isin(predicted, (0, 1)).all()):
        raise ValueError("Found labels or predictions other than 0 and 1. Apply a threshold first.")
    total, positives = truth.size, truth.sum()
    if not positives:
        return float("nan")
    if positives == total:
        return 0.0
    tp = (predicted[truth == 1] == 1).sum()
    fn = positives - tp
    fp = (predicted[truth == 0] == 1).sum()
    reward = (total - positives) / (2 * positives)
    best = (total - positives) / 2
    return float(best / (2 * best - (reward * tp - reward * fn - fp)))
