"""The CRG score of the VLM3D challenge."""

from __future__ import annotations

import numpy as np


def crg_score(truth: np.ndarray, predicted: np.ndarray) -> float:
    """CRG score over all labels of all cases at once (any shape): 1 for all right, 1/5 for all wrong.

    With X labels, A of them present: r = (X - A) / 2A, U = (X - A) / 2, s = r TP - r FN - FP, CRG = U / (2U - s).
    Saying "nothing" and saying "everything" thus both score 1/3; the definition is the challenge's (FORMATS,
    and crg_score.py of github.com/forithmus/VLM3D-Dockers). Labels are 1, 0 or NaN; a null label counts as none.

    NaN if no label is present (the challenge's script stops with an error); 0 if all are, as in the challenge.

    CTest-Metric (arXiv 2601.11488) found a negative correlation of CRG with experts' ratings of reports: use it to
    compare with the challenge, not to choose a model.
    """
    truth, predicted = np.asarray(truth, dtype=np.float64).ravel(), np.asarray(predicted, dtype=np.float64).ravel()
    if truth.shape != predicted.shape:
        raise ValueError(f"{truth.size} labels and {predicted.size} predictions: expected as many of each.")
    known = ~np.isnan(truth)
    truth, predicted = truth[known], predicted[known]
    if not (np.isin(truth, (0, 1)).all() and np.isin(predicted, (0, 1)).all()):
        raise ValueError("CRG takes labels and predictions of 0 or 1: apply a threshold first.")
    total, positives = truth.size, truth.sum()
    if not positives:
        return float("nan")
    if positives == total:
        return 0.0
    found = (predicted[truth == 1] == 1).sum()
    missed = positives - found
    false = (predicted[truth == 0] == 1).sum()
    reward = (total - positives) / (2 * positives)
    most = (total - positives) / 2
    return float(most / (2 * most - (reward * found - reward * missed - false)))
