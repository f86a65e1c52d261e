import math

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from ctvlm.evaluation.functional import auroc, bootstrap_intervals


def clustered(rng, patients=80, spread=1.0):
    """Values with mean zero; one to three per patient, correlated within a patient."""
    sizes = rng.integers(1, 4, patients)
    cluster = np.repeat(np.arange(patients), sizes)
    return rng.normal(size=patients)[cluster] * spread + rng.normal(size=len(cluster)), cluster


def coverage(simulate, data_sets, truth, **kwargs):
    """Share of data sets whose interval contains the true value."""
    rng, covered = np.random.default_rng(0), 0
    for number in range(data_sets):
        statistic, clusters = simulate(rng)
        interval = bootstrap_intervals(statistic, clusters, seed=number, **kwargs)
        covered += interval.low[0] <= truth <= interval.high[0]
    return covered / data_sets


def mean_of_patients(rng):
    values, cluster = clustered(rng)
    return (lambda index: np.array([values[index].mean()])), cluster.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_intervals_of_a_mean_cover_it(method):
    assert 0.93 <= coverage(mean_of_patients, 500, 0.0, num_resamples=400, method=method) <= 0.97


@pytest.mark.slow
def test_intervals_of_auroc_cover_it():
    def simulate(rng):
        truth = np.repeat([0.0, 1.0], 50)
        score = rng.normal(size=100) + truth

        def area(index):  # scikit-learn's function takes 4 ms and would be called 100,000 times
            scores, present = score[index], truth[index] == 1
            return np.array([(scores[present][:, None] > scores[~present]).mean()])

        return area, list(range(100))

    assert 0.93 <= coverage(simulate, 500, norm.cdf(1 / math.sqrt(2)), num_resamples=200) <= 0.97


def test_intervals_over_patients_are_wider_than_over_cases():
    values, cluster = clustered(np.random.default_rng(0), spread=3.0)

    def mean(index):
        return np.array([values[index].mean()])

    by_patient = bootstrap_intervals(mean, cluster.tolist(), 300)
    by_case = bootstrap_intervals(mean, list(range(len(values))), 300)
    assert (by_patient.high - by_patient.low)[0] > 1.2 * (by_case.high - by_case.low)[0]
    assert by_patient.num_clusters == 80


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_one_case_per_patient_equals_scipy(method):
    values = np.random.default_rng(0).exponential(size=40)
    got = bootstrap_intervals(lambda i: np.array([values[i].mean(), values[i].std()]), range(40), 200, method=method)
    for number, statistic in enumerate((np.mean, np.std)):
        rng = np.random.default_rng(0)
        expected = bootstrap((values,), statistic, n_resamples=200, method=method, rng=rng).confidence_interval
        assert (got.low[number], got.high[number]) == pytest.approx((expected.low, expected.high))


def test_undefined_resamples_are_counted_and_excluded():
    truth, score = np.array([1.0, *[0.0] * 19]), np.linspace(0, 1, 20)
    got = bootstrap_intervals(lambda i: np.array([auroc(truth[i], score[i])]), range(20), 200)
    assert 0.2 < got.undefined[0] < 0.5  # a share of (19/20)^20 resamples does not contain the positive
    assert math.isnan(got.low[0])
    assert not math.isnan(
        bootstrap_intervals(lambda i: np.array([auroc(truth[i], score[i])]), range(20), 200, max_undefined=1).low[0]
    )


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_constant_statistic_has_an_interval_of_width_zero(method):
    got = bootstrap_intervals(lambda i: np.array([0.7, np.nan]), range(10), 50, method=method)
    assert (got.low[0], got.high[0]) == (0.7, 0.7)
    assert math.isnan(got.low[1])


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_undefined_statistic_has_no_interval(method):
    got = bootstrap_intervals(lambda i: np.array([np.nan, np.nan]), range(10), 50, method=method)
    assert np.isnan([*got.low, *got.high]).all()


def test_one_patient_has_no_interval():
    got = bootstrap_intervals(lambda i: np.array([1.0]), ["a", "a", "a"], 50)
    assert math.isnan(got.low[0])
    assert got.num_clusters == 1
    with pytest.raises(ValueError, match="no cases"):
        bootstrap_intervals(lambda i: np.array([1.0]), [])
    with pytest.raises(ValueError, match="percentile"):
        bootstrap_intervals(lambda i: np.array([1.0]), ["a", "b"], method="bca")
