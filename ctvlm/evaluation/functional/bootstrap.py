"""Confidence intervals by resampling patients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import DegenerateDataWarning
from scipy.stats import bootstrap as scipy_bootstrap


@dataclass(frozen=True)
class Intervals:
    """Intervals of K statistics.

    Attributes:
        low, high: bounds (K); NaN where the statistic or too many of its resamples are undefined.
        undefined: share of resamples in which each statistic was undefined (K).
        num_clusters: patients resampled.
    """

    low: np.ndarray
    high: np.ndarray
    undefined: np.ndarray
    num_clusters: int


def bootstrap_intervals(
    statistic: Callable[[np.ndarray], np.ndarray],
    clusters: Sequence[Hashable],
    num_resamples: int = 1000,
    level: float = 0.95,
    method: Literal["percentile", "BCa"] = "percentile",
    seed: int = 0,
    max_undefined: float = 0.1,
) -> Intervals:
    """Bootstrap intervals of several statistics over the same resamples of whole patients.

    Cases of one patient are not independent: patients are drawn with replacement, each with all of its cases (cluster
    bootstrap; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). The resampling is
    scipy's.

    Args:
        statistic: from case indices (with repeats) to K numbers; NaN where undefined.
        clusters: patient of each case (N).
        method: ``percentile``, or ``BCa`` (needs one more evaluation per patient, and every resample defined). With few
            patients (say 30) percentile intervals lean with the bias of the resamples, and may miss the value itself.
        max_undefined: percentile bounds come from the defined resamples, unless more than this share is undefined.

    Raises:
        ValueError: without cases, or for an unknown method.
    """
    if method not in ("percentile", "BCa"):
        raise ValueError(f"Unknown method={method!r}: expected 'percentile' or 'BCa'.")
    if len(clusters) == 0:
        raise ValueError("No cases to resample: an interval needs at least two patients.")
    names: dict[Hashable, list[int]] = {}
    for index, cluster in enumerate(clusters):
        names.setdefault(cluster, []).append(index)
    members = [np.array(indices) for indices in names.values()]
    value = np.asarray(statistic(np.arange(len(clusters))), dtype=np.float64)
    if len(members) < 2:
        return Intervals(np.full_like(value, np.nan), np.full_like(value, np.nan), np.zeros_like(value), len(members))

    def of_patients(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        """Statistics of each draw of patients: (..., patients) to (K, ...)."""
        drawn = np.moveaxis(drawn, axis, -1)
        flat = drawn.reshape(-1, drawn.shape[-1])
        rows = [statistic(np.concatenate([members[int(patient)] for patient in row])) for row in flat]
        return np.stack(rows, axis=-1).reshape(len(value), *drawn.shape[:-1])

    with np.errstate(all="ignore"), warnings.catch_warnings():
        # scipy warns of statistics without an interval; here they come back as NaN, or with no width.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = scipy_bootstrap(
            (np.arange(len(members)),),
            of_patients,
            vectorized=True,
            n_resamples=num_resamples,
            confidence_level=level,
            method=method,
            rng=np.random.default_rng(seed),
            batch=max(1, 1_000_000 // len(members)),
        )
    draws = result.bootstrap_distribution
    undefined = np.isnan(draws).mean(axis=-1)
    if method == "BCa":
        # scipy gives NaN where all resamples are equal: such a statistic did not vary at all.
        still = (draws == value[:, None]).all(axis=-1)
        low, high = (np.where(still, value, bound) for bound in result.confidence_interval)
    else:
        low, high = np.full((2, len(value)), np.nan)
        some = undefined < 1
        if some.any():
            low[some], high[some] = np.nanquantile(draws[some], [(1 - level) / 2, (1 + level) / 2], axis=-1)
    bad = (undefined > max_undefined) | np.isnan(value)
    low, high = (np.where(bad, np.nan, bound) for bound in (low, high))
    return Intervals(low, high, undefined, len(members))
