import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_f1_score

from ctvlm.evaluation.functional import (
    auroc,
    average_precision,
    best_f1_threshold,
    brier_score,
    decision_scores,
    expected_calibration_error,
    grid_corner_threshold,
    nearest_corner_threshold,
    reliability_curve,
    youden_threshold,
)

NAN = float("nan")


def draws(number=200, seed=0):
    """Labels with both classes, and scores with many ties."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        size = int(rng.integers(4, 40))
        truth = rng.integers(0, 2, size).astype(float)
        truth[:2] = 0, 1
        yield truth, rng.integers(0, 8, size) / 8 if rng.random() < 0.5 else rng.random(size)


def test_scores_equal_torchmetrics():
    for truth, score in draws():
        target, preds = torch.tensor(truth).int(), torch.tensor(score)
        assert auroc(truth, score) == pytest.approx(binary_auroc(preds, target).item(), abs=1e-6)
        assert average_precision(truth, score) == pytest.approx(
            binary_average_precision(preds, target).item(), abs=1e-6
        )
        predicted = (score >= 0.5).astype(float)
        expected = binary_f1_score(torch.tensor(predicted), target).item()
        assert decision_scores(truth, predicted)["f1"] == pytest.approx(expected, abs=1e-6)


def test_ranking_and_probability_scores_equal_scikit_learn():
    for truth, score in draws(seed=2):
        assert auroc(truth, score) == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-12)
        assert average_precision(truth, score) == pytest.approx(sk.average_precision_score(truth, score), abs=1e-12)
        assert brier_score(truth, score) == pytest.approx(sk.brier_score_loss(truth, score), abs=1e-12)


def test_decisions_equal_scikit_learn():
    for truth, score in draws(seed=1):
        predicted = (score >= 0.5).astype(float)
        scores = decision_scores(truth, predicted)
        expected = {
            "f1": sk.f1_score(truth, predicted),
            "f1_weighted": sk.f1_score(truth, predicted, average="weighted"),
            "accuracy": sk.accuracy_score(truth, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
            "precision": sk.precision_score(truth, predicted, zero_division=NAN),
            "recall": sk.recall_score(truth, predicted),
            "specificity": sk.recall_score(truth, predicted, pos_label=0),
        }
        assert scores == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("one_class", [0, 1])
def test_scores_of_one_class(one_class):
    truth = np.full(5, float(one_class))
    for predicted in (np.zeros(5), np.ones(5), np.array([1, 0, 1, 0, 0.0])):
        scores = decision_scores(truth, predicted, zero_division=0.0, one_class=True)
        assert scores["f1"] == sk.f1_score(truth, predicted, zero_division=0)
        assert scores["precision"] == sk.precision_score(truth, predicted, zero_division=0)
        assert scores["f1_weighted"] == sk.f1_score(truth, predicted, average="weighted", zero_division=0)


def test_thresholds_are_the_best_of_all_candidates():
    for truth, score in draws(seed=2):
        candidates = [*np.unique(score), score.max() + 1]

        def corner(t, truth=truth, score=score):
            scores = decision_scores(truth, (score >= t).astype(float))
            return -((1 - scores["specificity"]) ** 2 + (1 - scores["recall"]) ** 2)

        def youden(t, truth=truth, score=score):
            scores = decision_scores(truth, (score >= t).astype(float))
            return scores["recall"] + scores["specificity"]

        def f1(t, truth=truth, score=score):
            return decision_scores(truth, (score >= t).astype(float))["f1"]

        for fit, quality in ((nearest_corner_threshold, corner), (youden_threshold, youden), (best_f1_threshold, f1)):
            assert quality(fit(truth, score)) == pytest.approx(max(quality(t) for t in candidates), abs=1e-9)


def test_constant_scores_are_at_chance():
    truth, constant = np.array([1, 0, 0, 1, 0.0]), np.full(5, 0.3)
    assert auroc(truth, constant) == 0.5
    assert average_precision(truth, constant) == pytest.approx(0.4)
    for fit in (nearest_corner_threshold, grid_corner_threshold, best_f1_threshold):
        assert math.isfinite(fit(truth, constant))
    assert math.isinf(youden_threshold(truth, constant))


@pytest.mark.parametrize("one_class", [0.0, 1.0])
def test_only_accuracy_is_defined_for_one_class(one_class):
    truth, score = np.full(6, one_class), np.linspace(0, 1, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(auroc(truth, score))
        assert math.isnan(average_precision(truth, score))
        assert math.isnan(youden_threshold(truth, score))
        scores = decision_scores(truth, np.full(6, one_class))
    assert scores.pop("accuracy") == 1.0
    assert all(math.isnan(value) for value in scores.values())


def test_scores_without_labelled_cases_are_nan():
    truth, score = np.full(3, NAN), np.array([0.1, NAN, 0.9])
    assert math.isnan(auroc(truth, score))
    assert all(math.isnan(value) for value in decision_scores(truth, np.ones(3)).values())
    assert math.isnan(brier_score(truth, score))
    assert math.isnan(expected_calibration_error(truth, score))


def test_unknown_labels_are_excluded():
    truth, score = np.array([1, NAN, 0, NAN, 1, 0]), np.array([0.9, 0.0, 0.2, NAN, 0.4, 0.5])
    known = ~np.isnan(truth)
    assert auroc(truth, score) == pytest.approx(sk.roc_auc_score(truth[known], score[known]))


def test_no_positive_predictions_give_nan_precision_and_f1_zero():
    scores = decision_scores(np.array([1, 0, 0.0]), np.zeros(3))
    assert math.isnan(scores["precision"])
    assert scores["f1"] == 0


def test_rejects_invalid_scores_and_labels():
    with pytest.raises(ValueError, match="1 of 2 .* NaN"):
        auroc(np.array([0, 1.0]), np.array([0.5, NAN]))
    with pytest.raises(ValueError, match="label -1"):
        auroc(np.array([0, -1.0]), np.array([0.5, 0.1]))
    with pytest.raises(ValueError, match=r"0\.5 to 1\.2"):
        brier_score(np.array([0, 1.0]), np.array([0.5, 1.2]))
    with pytest.raises(ValueError, match="0 and 1"):
        decision_scores(np.array([0, 1.0]), np.array([0.5, 1.0]))


@pytest.mark.parametrize("strategy", ["width", "mass"])
def test_calibration_equals_naive_bins(strategy):
    for truth, probability in draws(seed=3):
        mean, present, counts = reliability_curve(truth, probability, bins=5, strategy=strategy)
        assert counts.sum() == len(truth)
        assert (np.diff(mean) > 0).all()
        assert (mean * counts).sum() == pytest.approx(probability.sum())
        assert (present * counts).sum() == pytest.approx(truth.sum())
        if strategy == "width":
            error = 0.0
            for b in range(5):
                inside = (probability >= b / 5) & ((probability < (b + 1) / 5) | (b == 4))
                if inside.any():
                    error += inside.mean() * abs(truth[inside].mean() - probability[inside].mean())
            assert expected_calibration_error(truth, probability, bins=5) == pytest.approx(error, abs=1e-9)
        assert brier_score(truth, probability) == pytest.approx(((truth - probability) ** 2).mean())


def test_true_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    truth = (rng.random(20_000) < probability).astype(float)
    assert expected_calibration_error(truth, probability) < 0.02
    assert expected_calibration_error(truth, probability**3) > 0.1
