"""Calibration of predicted probabilities."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ctvlm.evaluation.functional.classification import labelled
from ctvlm.utils import check_choice


def brier_score(truth_N: np.ndarray, probability_N: np.ndarray) -> float:
    """Mean squared difference between probability and label (Brier, 1950). NaN without labelled cases."""
    truth, probability = _probabilities(truth_N, probability_N)
    return float(np.square(probability - truth).mean()) if len(truth) else float("nan")


def reliability_curve(
    truth_N: np.ndarray, probability_N: np.ndarray, bins: int = 15, strategy: Literal["width", "mass"] = "width"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share of positives and number of cases of each bin that is not empty.

    Args:
        strategy: ``width`` uses bins of equal width on [0, 1], the last one closed. ``mass`` uses bins with nearly
            equal numbers of cases; equal probabilities are in one bin.
    """
    check_choice("reliability_curve", "strategy", strategy, ("width", "mass"))
    truth, probability = _probabilities(truth_N, probability_N)
    if strategy == "width":
        index = np.minimum((probability * bins).astype(int), bins - 1)
    else:
        edges = np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]) if len(probability) else np.zeros(0)
        index = np.searchsorted(np.unique(edges), probability, side="left")
    counts = np.bincount(index, minlength=bins)
    used = counts > 0
    mean = np.bincount(index, probability, minlength=bins)[used] / counts[used]
    present = np.bincount(index, truth, minlength=bins)[used] / counts[used]
    return mean, present, counts[used]


def expected_calibration_error(
    truth_N: np.ndarray, probability_N: np.ndarray, bins: int = 15, strategy: Literal["width", "mass"] = "width"
) -> float:
    """Mean over cases of |share of positives - mean probability| in the case's bin. NaN without labelled cases.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, for the probability of the positive class instead
    of the more likely class.
    """
    mean, present, counts = reliability_curve(truth_N, probability_N, bins, strategy)
    return float((np.abs(present - mean) * counts).sum() / counts.sum()) if len(counts) else float("nan")


def _probabilities(truth_N: np.ndarray, probability_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, probability = labelled(truth_N, probability_N)
    if len(probability) and not (0 <= probability.min() and probability.max() <= 1):
        raise ValueError(
            f"Found probabilities from {probability.min():g} to {probability.max():g}; expected 0 to 1. Apply a "
            "sigmoid or softmax to scores first."
        )
    return truth, probability
