"""Confidence intervals over a few runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ctvlm.evaluation.functional.over_seeds import mean_interval, paired_difference


def test_equals_scipy():
    rng = np.random.default_rng(0)
    for count in (2, 3, 5, 30):
        values = rng.normal(size=count)
        mean, half = mean_interval(values)
        low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
        assert (mean - half, mean + half) == pytest.approx((low, high))


def test_coverage_equals_the_level():
    rng = np.random.default_rng(1)
    draws = rng.normal(2.0, 0.3, size=(2000, 3))
    covered = [abs(mean - 2.0) <= half for mean, half in map(mean_interval, draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_paired_difference_removes_the_effect_of_the_seed():
    base = {0: 0.1, 1: 0.9, 2: 0.4, 7: 0.0}
    mean, half = paired_difference({seed: base[seed] + 0.05 for seed in (0, 1, 2)}, base)
    assert mean == pytest.approx(0.05) and half == pytest.approx(0, abs=1e-12)


def test_too_few_runs():
    assert mean_interval([0.5])[0] == 0.5 and math.isnan(mean_interval([0.5])[1])
    assert all(math.isnan(x) for x in mean_interval([]))
    assert mean_interval([0.5, float("nan"), 0.7])[0] == pytest.approx(0.6)
    assert all(math.isnan(x) for x in paired_difference({0: 1.0}, {1: 1.0}))
