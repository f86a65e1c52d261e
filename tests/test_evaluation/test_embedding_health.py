import math

import numpy as np
import pytest

from ctvlm.evaluation.functional import alignment, effective_rank, modality_gap, uniformity


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_scores_equal_naive_implementations():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, p = rng.integers(2, 9, 2)
        a, b = rng.normal(size=(2, n, p))
        pairs = [np.exp(-2 * ((unit(a)[i] - unit(a)[j]) ** 2).sum()) for i in range(n) for j in range(i)]
        assert uniformity(a) == pytest.approx(np.log(np.mean(pairs)), abs=1e-9)
        assert alignment(a, b) == pytest.approx(np.mean(2 - 2 * (unit(a) * unit(b)).sum(1)), abs=1e-9)
        assert modality_gap(a, b) == pytest.approx(np.linalg.norm(unit(a).mean(0) - unit(b).mean(0)), abs=1e-9)
        covariance = (a - a.mean(0)).T @ (a - a.mean(0))
        singular = np.sqrt(np.clip(np.linalg.eigvalsh(covariance), 0, None))
        share = singular / singular.sum()
        entropy = -sum(s * math.log(s) for s in share if s > 1e-7)
        assert effective_rank(a) == pytest.approx(math.exp(entropy), abs=1e-4)


def test_known_ranks():
    axes = np.concatenate([np.eye(5), -np.eye(5)])
    assert effective_rank(axes) == pytest.approx(5)
    assert effective_rank(np.outer(np.arange(4.0), np.ones(3))) == pytest.approx(1)
    # Only embeddings that are exactly equal have rank 0; float32 noise has many dimensions.
    assert effective_rank(np.full((6, 3), 0.1)) == 0


def test_equal_and_too_few_embeddings():
    same = np.full((6, 3), 0.1)
    assert uniformity(same) == pytest.approx(0)
    assert alignment(same, same) == modality_gap(same, same) == 0
    for value in (
        effective_rank(same[:1]),
        uniformity(same[:1]),
        alignment(same[:0], same[:0]),
        modality_gap(same, same[:0]),
    ):
        assert math.isnan(value)


def test_rejects_nan_zero_and_different_shapes():
    with pytest.raises(ValueError, match="NaN"):
        effective_rank(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="1 embeddings"):
        uniformity(np.array([[0, 0], [1, 0.0]]))
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(3, 2\)"):
        alignment(np.ones((2, 2)), np.ones((3, 2)))
