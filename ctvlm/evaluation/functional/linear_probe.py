"""Linear probe: logistic regression on frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctvlm.evaluation.functional.classification import auroc, best_f1_threshold

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

STRENGTHS = tuple(10.0**power for power in range(-5, 3))


@dataclass(frozen=True)
class Probe:
    """A fitted classifier of one finding.

    Attributes:
        model: standard scaling, then logistic regression.
        strength: scikit-learn's C, the inverse of the L2 penalty.
        threshold: threshold with the best F1 on the dev split; NaN if that split has one class only.
    """

    model: Pipeline
    strength: float
    threshold: float

    def probability(self, embeddings_NP: np.ndarray) -> np.ndarray:
        """Probability that the finding is present (N)."""
        return self.model.predict_proba(np.asarray(embeddings_NP, dtype=np.float64))[:, 1]


def fit_probe(
    train_NP: np.ndarray,
    train_truth_N: np.ndarray,
    dev_NP: np.ndarray,
    dev_truth_N: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe | None:
    """Fit on the training split; select C by AUROC and the threshold by F1 on the dev split.

    The smallest (strongest penalty) of equally good values of C is selected, and the middle one if the dev split has
    one class only. Cases with a label of NaN (unknown) are excluded. Returns None if the training split has one class
    only.

    Raises:
        ValueError: an embedding is not finite.
    """
    from sklearn.linear_model import LogisticRegression  # takes long to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train_NP, dev_NP = (np.asarray(x, dtype=np.float64) for x in (train_NP, dev_NP))
    for embeddings in (train_NP, dev_NP):
        if not np.isfinite(embeddings).all():
            raise ValueError("Embeddings contain NaN or infinity. Check whether training diverged.")
    known, known_dev = ~np.isnan(train_truth_N), ~np.isnan(dev_truth_N)
    truth = train_truth_N[known].astype(int)
    if len(set(truth)) < 2:
        return None
    strengths = sorted(strengths)
    models, scores = [], []
    for strength in strengths:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        models.append(model.fit(train_NP[known], truth))
        probability = model.predict_proba(dev_NP[known_dev])[:, 1] if known_dev.any() else np.zeros(0)
        scores.append(auroc(dev_truth_N[known_dev], probability))
    best = len(strengths) // 2 if np.isnan(scores).all() else int(np.nanargmax(scores))
    threshold = float("nan")
    if known_dev.any():
        threshold = best_f1_threshold(dev_truth_N[known_dev], models[best].predict_proba(dev_NP[known_dev])[:, 1])
    return Probe(models[best], float(strengths[best]), threshold)
