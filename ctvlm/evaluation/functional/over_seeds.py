"""Confidence intervals over a few training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean of n independent runs and half-width of its Student's t interval, t(n - 1) * sd / sqrt(n).

    Values that are not finite are excluded. The half-width is NaN for one value; both are NaN without values.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return float("nan"), float("nan")
    if len(finite) == 1:
        return float(finite[0]), float("nan")
    quantile = scipy.stats.t.ppf((1 + level) / 2, len(finite) - 1)
    return float(finite.mean()), float(quantile * finite.std(ddof=1) / np.sqrt(len(finite)))


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], level: float = 0.95
) -> tuple[float, float]:
    """``mean_interval`` of value minus reference over the common seeds.

    A seed determines the order of the data for both models, so that its common effect cancels.
    """
    return mean_interval([values[seed] - reference[seed] for seed in values if seed in reference], level)
