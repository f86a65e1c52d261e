import itertools
import math

import numpy as np
import pytest

from ctvlm.evaluation.functional import (
    centroid_distance_mm,
    connected_instances,
    instance_counts,
    instance_counts_by_distance,
    instance_scores,
    mask_dice,
    surface_distances_mm,
)


def naive_matches(predicted, truth, min_dice):
    """Largest number of one-to-one pairs, by trying all assignments."""
    rows, columns = ([n for n in np.unique(m) if n] for m in (predicted, truth))
    fits = {(a, b) for a in rows for b in columns if mask_dice(predicted == a, truth == b) >= min_dice}
    longer, shorter = (rows, columns) if len(rows) >= len(columns) else (columns, rows)
    orders = itertools.permutations(longer, len(shorter))
    pairs = (zip(order, shorter, strict=True) for order in orders)
    return max((sum((p if longer is rows else p[::-1]) in fits for p in chosen) for chosen in pairs), default=0)


def test_counts_equal_the_best_of_all_assignments():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = (2, 3, 4)
        predicted, truth = rng.integers(0, rng.integers(1, 5), shape), rng.integers(0, rng.integers(1, 5), shape)
        tp, fp, fn = instance_counts(predicted, truth, 0.3)
        assert tp == naive_matches(predicted, truth, 0.3)
        assert tp + fp == len(set(predicted[predicted > 0]))
        assert tp + fn == len(set(truth[truth > 0]))


def test_an_instance_is_in_at_most_one_pair():
    truth = np.zeros((1, 1, 6), int)
    truth[..., :3], truth[..., 3:] = 1, 2
    whole = np.ones((1, 1, 6), int)
    assert instance_counts(whole, truth) == (1, 0, 1)
    assert instance_counts(truth, whole) == (1, 1, 0)
    assert instance_counts(truth * 7, truth) == (2, 0, 0)


def test_edges_connect_and_corners_do_not():
    mask = np.zeros((2, 2, 5), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True  # a corner
    assert connected_instances(mask).max() == 2
    mask[0, 0, 3] = mask[1, 0, 4] = True  # an edge
    components = connected_instances(mask)
    assert components.max() == 3
    assert components[0, 0, 3] == components[1, 0, 4] > 0


def test_small_components_are_removed():
    mask = np.zeros((1, 3, 20), bool)
    mask[0, 0, :9] = mask[0, 2, :10] = mask[0, 0, 12] = True
    components = connected_instances(mask, min_voxels=10)
    assert components.max() == 1
    assert (components > 0).sum() == 10 and (components[0, 2, :10] == 1).all()


def naive_distance_matches(predicted, truth, spacing, focal):
    """Largest number of pairs within twice the largest spacing, by trying all assignments."""

    def distance(a, b):
        pair = predicted == a, truth == b
        return centroid_distance_mm(*pair, spacing) if focal else surface_distances_mm(*pair, spacing)["assd"]

    rows, columns = ([n for n in np.unique(m) if n] for m in (predicted, truth))
    fits = np.array([[distance(a, b) <= 2 * max(spacing) for b in columns] for a in rows]).reshape(len(rows), -1)
    if len(rows) > len(columns):
        fits = fits.T
    orders = itertools.permutations(range(max(len(rows), len(columns))), min(len(rows), len(columns)))
    return max((sum(fits[i, j] for i, j in enumerate(order)) for order in orders), default=0)


@pytest.mark.parametrize("focal", [False, True])
def test_counts_by_distance_equal_the_best_of_all_assignments(focal):
    rng = np.random.default_rng(0)
    for _ in range(40):
        predicted, truth = (connected_instances(rng.random((4, 9, 9)) < 0.03) for _ in range(2))
        predicted[predicted > 5], truth[truth > 5] = 0, 0
        spacing = rng.uniform(0.5, 3, 3)
        tp, fp, fn = instance_counts_by_distance(predicted, truth, spacing, focal)
        assert tp == naive_distance_matches(predicted, truth, spacing, focal)
        assert (tp + fp, tp + fn) == (predicted.max(), truth.max())


def test_the_limit_is_twice_the_largest_spacing():
    truth, shifted = np.zeros((2, 9, 1, 1), int)
    truth[2], shifted[4] = 1, 1
    assert instance_counts_by_distance(shifted, truth, (3, 1, 1)) == (1, 0, 0)  # 6 mm, limit 6 mm
    assert instance_counts_by_distance(shifted, truth, (3, 1, 1), focal=True) == (1, 0, 0)
    shifted[4], shifted[5] = 0, 1
    assert instance_counts_by_distance(shifted, truth, (3, 1, 1)) == (0, 1, 1)  # 9 mm
    assert instance_counts_by_distance(shifted, truth, (3, 1, 5)) == (1, 0, 0)  # limit 10 mm
    # A short mask inside a long one: small centroid distance, large surface distance.
    wide, short = np.zeros((2, 1, 1, 41), int)
    wide[:], short[..., 20] = 1, 1
    assert instance_counts_by_distance(wide, short, (1, 1, 1)) == (0, 1, 1)
    assert instance_counts_by_distance(wide, short, (1, 1, 1), focal=True) == (1, 0, 0)


def test_scores_without_instances():
    empty = np.zeros((2, 2, 2), int)
    assert instance_counts(empty, empty) == (0, 0, 0)
    assert instance_counts(empty, empty + 1) == (0, 0, 1)
    assert all(math.isnan(value) for value in instance_scores(0, 0, 0).values())
    scores = instance_scores(0, 0, 3)
    assert (scores["instance_recall"], scores["instance_f1"]) == (0, 0)
    assert math.isnan(scores["instance_precision"])
    assert instance_scores(2, 1, 1)["instance_f1"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match=r"\(2, 2, 2\).*\(2, 2\)"):
        instance_counts(empty, empty[0])
    with pytest.raises(ValueError, match=r"\(2, 2, 2\).*\(2, 2\)"):
        instance_counts_by_distance(empty, empty[0], (1, 1, 1))
    with pytest.raises(ValueError, match=r"\[1\.0, 1\.0, 0\.0\]"):
        instance_counts_by_distance(empty, empty, (1, 1, 0))
    assert instance_counts_by_distance(empty, empty + 1, (1, 1, 1)) == (0, 0, 1)
    assert set(instance_scores(1, 0, 0, "instance_assd")) == {
        "instance_assd_precision", "instance_assd_recall", "instance_assd_f1",
    }  # fmt: skip
