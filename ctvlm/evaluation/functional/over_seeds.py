"""What a difference between models is worth when each was trained a few times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t as student_t


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of its interval: Student's t over n independent runs, t(n - 1) * sd / sqrt(n).

    The half-width is NaN for a single value, both are for none; a value that is not finite is not counted.
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if len(found) == 0:
        return float("nan"), float("nan")
    if len(found) == 1:
        return float(found[0]), float("nan")
    quantile = student_t.ppf((1 + level) / 2, len(found) - 1)
    return float(found.mean()), float(quantile * found.std(ddof=1) / np.sqrt(len(found)))


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], level: float = 0.95
) -> tuple[float, float]:
    """``mean_interval`` of value minus reference over the seeds that both have, seed by seed.

    A seed gives both models the order of their data: what it does to both alike cancels.
    """
    return mean_interval([values[seed] - reference[seed] for seed in values if seed in reference], level)
