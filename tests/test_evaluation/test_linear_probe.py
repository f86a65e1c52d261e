import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ctvlm.evaluation.functional.linear_probe import fit_probe

STRENGTHS = (1e-4, 1e-2, 1.0)


def draw(rng, number, width=6, signal=1.5):
    truth = rng.integers(0, 2, number).astype(float)
    truth[:2] = 0, 1
    x = rng.normal(size=(number, width)) * np.geomspace(0.1, 50, width)
    x[:, 0] += truth * signal * 0.1
    return x, truth


def test_equals_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(10):
        (train, truth), (dev, dev_truth), (test, _) = (draw(rng, n) for n in (40, 30, 10))
        probe = fit_probe(train, truth, dev, dev_truth, STRENGTHS)
        scaler = StandardScaler().fit(train)
        fits = [LogisticRegression(C=c, max_iter=2000).fit(scaler.transform(train), truth) for c in STRENGTHS]
        areas = [sk.roc_auc_score(dev_truth, fit.predict_proba(scaler.transform(dev))[:, 1]) for fit in fits]
        best = int(np.argmax(areas))
        assert probe.strength == STRENGTHS[best]
        expected = fits[best].predict_proba(scaler.transform(test))[:, 1]
        np.testing.assert_allclose(probe.probability(test), expected, atol=1e-6)
        f1 = [sk.f1_score(dev_truth, probe.probability(dev) >= t) for t in probe.probability(dev)]
        assert sk.f1_score(dev_truth, probe.probability(dev) >= probe.threshold) == pytest.approx(max(f1))


def test_auroc_with_and_without_a_signal():
    rng = np.random.default_rng(1)
    areas = {}
    for signal in (0.0, 4.0):
        (train, truth), (dev, dev_truth), (test, test_truth) = (draw(rng, 300, signal=signal) for _ in range(3))
        probe = fit_probe(train, truth, dev, dev_truth, STRENGTHS)
        areas[signal] = sk.roc_auc_score(test_truth, probe.probability(test))
    assert areas[4.0] > 0.9
    assert 0.4 < areas[0.0] < 0.6


def test_unknown_labels_and_one_class():
    rng = np.random.default_rng(2)
    (x, truth), (dev, dev_truth) = draw(rng, 40), draw(rng, 30)
    null = np.where(np.arange(40) < 30, truth, np.nan)
    np.testing.assert_allclose(
        fit_probe(x, null, dev, dev_truth).probability(dev),
        fit_probe(x[:30], truth[:30], dev, dev_truth).probability(dev),
    )
    assert fit_probe(x, np.zeros(40), dev, dev_truth) is None
    assert fit_probe(x, np.full(40, np.nan), dev, dev_truth) is None
    one_class = fit_probe(x, truth, dev, np.zeros(30), STRENGTHS)
    assert (one_class.strength, np.isnan(one_class.threshold)) == (1e-2, True)
    unlabelled = fit_probe(x, truth, dev, np.full(30, np.nan), STRENGTHS)
    assert (unlabelled.strength, np.isnan(unlabelled.threshold)) == (1e-2, True)


def test_constant_embeddings_and_nan():
    truth = np.array([0, 1, 0, 1.0])
    probe = fit_probe(np.ones((4, 3)), truth, np.ones((4, 3)), truth)
    assert len(set(probe.probability(np.ones((5, 3))))) == 1
    with pytest.raises(ValueError, match="NaN"):
        fit_probe(np.full((4, 3), np.nan), truth, np.ones((4, 3)), truth)
