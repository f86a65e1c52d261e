"""Bootstrap confidence intervals over patients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from ctvlm.utils import check_choice


@dataclass(frozen=True)
class Intervals:
    """Confidence intervals of K statistics.

    Attributes:
        low, high: bounds (K); NaN if the statistic or too many of its resamples are undefined.
        undefined: share of resamples in which each statistic is undefined (K).
        num_clusters: number of patients.
        resampled: values of the resamples (K, number of resamples); empty with fewer than two patients.
    """

    low: np.ndarray
    high: np.ndarray
    undefined: np.ndarray
    num_clusters: int
    resampled: np.ndarray


@dataclass(frozen=True)
class Resamples:
    """One statistic on each resample of patients.

    Attributes:
        clusters: patient of each case (N). Equal clusters and seeds give the same resamples.
        values: (number of resamples).
    """

    clusters: tuple[Hashable, ...]
    values: np.ndarray


def bootstrap_intervals(
    statistic: Callable[[np.ndarray], np.ndarray],
    clusters: Sequence[Hashable],
    num_resamples: int = 1000,
    level: float = 0.95,
    method: Literal["percentile", "BCa"] = "percentile",
    seed: int = 0,
    max_undefined: float = 0.1,
) -> Intervals:
    """Bootstrap confidence intervals of several statistics over the same resamples of patients.

    Cases of one patient are not independent. Patients are therefore drawn with replacement, each with all of its cases
    (cluster bootstrap; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). scipy does
    the resampling.

    Args:
        statistic: maps case indices (with repeats) to K numbers; NaN if undefined.
        clusters: patient of each case (N).
        method: ``percentile``, or ``BCa``, which needs one more evaluation per patient and every resample defined. With
            few patients (about 30), percentile intervals are biased and may not contain the value itself.
        max_undefined: the percentiles are taken over the defined resamples; the bounds are NaN if more than this share
            is undefined.

    Raises:
        ValueError: there are no cases, or the method is unknown.
    """
    check_choice("bootstrap_intervals", "method", method, ("percentile", "BCa"))
    if len(clusters) == 0:
        raise ValueError("Found no cases to resample; a bootstrap interval needs at least two patients.")
    cases: dict[Hashable, list[int]] = {}
    for index, cluster in enumerate(clusters):
        cases.setdefault(cluster, []).append(index)
    members = [np.array(indices) for indices in cases.values()]
    value = np.asarray(statistic(np.arange(len(clusters))), dtype=np.float64)
    if len(members) < 2:
        nan = np.full_like(value, np.nan)
        return Intervals(nan, nan.copy(), np.zeros_like(value), len(members), np.empty((len(value), 0)))

    def statistic_of_patients(patients: np.ndarray, axis: int = -1) -> np.ndarray:
        """Statistics of each resample of patients: (..., patients) to (K, ...)."""
        patients = np.moveaxis(patients, axis, -1)
        resamples = patients.reshape(-1, patients.shape[-1])
        rows = [statistic(np.concatenate([members[int(patient)] for patient in row])) for row in resamples]
        return np.stack(rows, axis=-1).reshape(len(value), *patients.shape[:-1])

    with np.errstate(all="ignore"), warnings.catch_warnings():
        # scipy warns about statistics without an interval; their bounds are NaN or equal here.
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        result = scipy.stats.bootstrap(
            (np.arange(len(members)),),
            statistic_of_patients,
            vectorized=True,
            n_resamples=num_resamples,
            confidence_level=level,
            method=method,
            rng=np.random.default_rng(seed),
            batch=max(1, 1_000_000 // len(members)),
        )
    resampled = result.bootstrap_distribution
    undefined = np.isnan(resampled).mean(axis=-1)
    if method == "BCa":
        # scipy returns NaN if all resamples are equal; the interval then has no width.
        constant = (resampled == value[:, None]).all(axis=-1)
        low, high = (np.where(constant, value, bound) for bound in result.confidence_interval)
    else:
        low, high = _percentiles(resampled, level)
    bad = (undefined > max_undefined) | np.isnan(value)
    low, high = (np.where(bad, np.nan, bound) for bound in (low, high))
    return Intervals(low, high, undefined, len(members), resampled)


def paired_interval(
    first: Resamples, other: Resamples, level: float = 0.95, max_undefined: float = 0.1
) -> tuple[float, float] | None:
    """Percentile interval of ``other - first`` over the same resamples of patients.

    NaN if the difference is undefined in more than ``max_undefined`` of the resamples; None if the two statistics have
    other cases or another number of resamples, so that they are not paired.
    """
    if first.clusters != other.clusters or len(first.values) != len(other.values):
        return None
    difference = (other.values - first.values)[None]
    if difference.size == 0 or np.isnan(difference).mean() > max_undefined:
        return float("nan"), float("nan")
    low, high = _percentiles(difference, level)
    return float(low[0]), float(high[0])


def _percentiles(resampled_KR: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (K) over the defined resamples; NaN without any."""
    low, high = np.full((2, len(resampled_KR)), np.nan)
    defined = ~np.isnan(resampled_KR).all(axis=-1)
    if defined.any():
        quantiles = [(1 - level) / 2, (1 + level) / 2]
        low[defined], high[defined] = np.nanquantile(resampled_KR[defined], quantiles, axis=-1)
    return low, high
