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


def naive_found(predicted, truth, min_dice):
    """The most pairs of any one-to-one choice, by trying all of them."""
    ours, theirs = ([n for n in np.unique(m) if n] for m in (predicted, truth))
    fits = {(a, b) for a in ours for b in theirs if mask_dice(predicted == a, truth == b) >= min_dice}
    longer, shorter = (ours, theirs) if len(ours) >= len(theirs) else (theirs, ours)
    orders = itertools.permutations(longer, len(shorter))
    pairs = (zip(order, shorter, strict=True) for order in orders)
    return max((sum((p if longer is ours else p[::-1]) in fits for p in chosen) for chosen in pairs), default=0)


def test_counts_equal_trying_every_pairing():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = (2, 3, 4)
        predicted, truth = rng.integers(0, rng.integers(1, 5), shape), rng.integers(0, rng.integers(1, 5), shape)
        found, false, missed = instance_counts(predicted, truth, 0.3)
        assert found == naive_found(predicted, truth, 0.3)
        assert found + false == len(set(predicted[predicted > 0]))
        assert found + missed == len(set(truth[truth > 0]))


def test_an_instance_has_one_partner():
    truth = np.zeros((1, 1, 6), int)
    truth[..., :3], truth[..., 3:] = 1, 2
    whole = np.ones((1, 1, 6), int)
    assert instance_counts(whole, truth) == (1, 0, 1)
    assert instance_counts(truth, whole) == (1, 1, 0)
    assert instance_counts(truth * 7, truth) == (2, 0, 0)


def test_parts_that_touch_by_an_edge_are_one_and_by_a_corner_are_two():
    mask = np.zeros((2, 2, 5), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True  # a corner
    assert connected_instances(mask).max() == 2
    mask[0, 0, 3] = mask[1, 0, 4] = True  # an edge
    components = connected_instances(mask)
    assert components.max() == 3
    assert components[0, 0, 3] == components[1, 0, 4] > 0


def test_small_components_are_dropped():
    mask = np.zeros((1, 3, 20), bool)
    mask[0, 0, :9] = mask[0, 2, :10] = mask[0, 0, 12] = True
    components = connected_instances(mask, min_voxels=10)
    assert components.max() == 1
    assert (components > 0).sum() == 10 and (components[0, 2, :10] == 1).all()


def naive_distance_found(predicted, truth, spacing, focal):
    """The most pairs within twice the largest spacing, by trying every pairing."""

    def distance(a, b):
        pair = predicted == a, truth == b
        return centroid_distance_mm(*pair, spacing) if focal else surface_distances_mm(*pair, spacing)["assd"]

    ours, theirs = ([n for n in np.unique(m) if n] for m in (predicted, truth))
    fits = np.array([[distance(a, b) <= 2 * max(spacing) for b in theirs] for a in ours]).reshape(len(ours), -1)
    if len(ours) > len(theirs):
        fits = fits.T
    orders = itertools.permutations(range(max(len(ours), len(theirs))), min(len(ours), len(theirs)))
    return max((sum(fits[i, j] for i, j in enumerate(order)) for order in orders), default=0)


@pytest.mark.parametrize("focal", [False, True])
def test_counts_by_distance_equal_trying_every_pairing(focal):
    rng = np.random.default_rng(0)
    for _ in range(40):
        predicted, truth = (connected_instances(rng.random((4, 9, 9)) < 0.03) for _ in range(2))
        predicted[predicted > 5], truth[truth > 5] = 0, 0
        spacing = rng.uniform(0.5, 3, 3)
        found, false, missed = instance_counts_by_distance(predicted, truth, spacing, focal)
        assert found == naive_distance_found(predicted, truth, spacing, focal)
        assert (found + false, found + missed) == (predicted.max(), truth.max())


def test_the_limit_is_twice_the_largest_spacing():
    truth, shifted = np.zeros((2, 9, 1, 1), int)
    truth[2], shifted[4] = 1, 1
    assert instance_counts_by_distance(shifted, truth, (3, 1, 1)) == (1, 0, 0)  # 6 mm, limit 6 mm
    assert instance_counts_by_distance(shifted, truth, (3, 1, 1), focal=True) == (1, 0, 0)
    shifted[4], shifted[5] = 0, 1
    assert instance_counts_by_distance(shifted, truth, (3, 1, 1)) == (0, 1, 1)  # 9 mm
    assert instance_counts_by_distance(shifted, truth, (3, 1, 5)) == (1, 0, 0)  # limit 10 mm
    # A long mask with a short one inside: near by centroids, far by surfaces.
    wide, short = np.zeros((2, 1, 1, 41), int)
    wide[:], short[..., 20] = 1, 1
    assert instance_counts_by_distance(wide, short, (1, 1, 1)) == (0, 1, 1)
    assert instance_counts_by_distance(wide, short, (1, 1, 1), focal=True) == (1, 0, 0)


def test_nothing_found_and_nothing_to_find():
    empty = np.zeros((2, 2, 2), int)
    assert instance_counts(empty, empty) == (0, 0, 0)
    assert instance_counts(empty, empty + 1) == (0, 0, 1)
    assert all(math.isnan(value) for value in instance_scores(0, 0, 0).values())
    missed = instance_scores(0, 0, 3)
    assert (missed["instance_recall"], missed["instance_f1"]) == (0, 0)
    assert math.isnan(missed["instance_precision"])
    assert instance_scores(2, 1, 1)["instance_f1"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="one grid"):
        instance_counts(empty, empty[0])
    with pytest.raises(ValueError, match="one grid"):
        instance_counts_by_distance(empty, empty[0], (1, 1, 1))
    with pytest.raises(ValueError, match="mm"):
        instance_counts_by_distance(empty, empty, (1, 1, 0))
    assert instance_counts_by_distance(empty, empty + 1, (1, 1, 1)) == (0, 0, 1)
    assert set(instance_scores(1, 0, 0, "instance_assd")) == {
        "instance_assd_precision", "instance_assd_recall", "instance_assd_f1",
    }  # fmt: skip
