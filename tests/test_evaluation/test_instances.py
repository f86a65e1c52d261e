import itertools
import math

import numpy as np
import pytest

from ctvlm.evaluation.functional import connected_instances, instance_counts, instance_scores, mask_dice


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


def test_parts_that_touch_by_a_corner_are_one():
    mask = np.zeros((2, 2, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[0, 0, 3] = True
    assert connected_instances(mask).max() == 2


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
