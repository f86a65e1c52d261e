"""RandomShiftCT."""

import numpy as np
import pytest
import torch

from ctvlm.datasets.transforms.random_shift import RandomShiftCT

AFFINE = np.array([[2.0, 0, 0, 5], [0, 3, 0, -7], [0, 0, 4, 9], [0, 0, 0, 1]])


def case():
    volume = np.full((6, 8, 10), -1024, dtype=np.int16)
    volume[3, 4, 5] = 400
    return dict(volume=volume, region_map=(volume > 0).astype(np.uint8), lesion_map=None, affine=AFFINE)


@pytest.mark.parametrize("seed", range(10))
def test_world_position_is_unchanged(seed):
    torch.manual_seed(seed)
    moved = RandomShiftCT((2, 3, 3))(case())
    (z, y, x), *others = np.argwhere(moved["volume"] == 400)
    assert not others
    np.testing.assert_allclose(moved["affine"] @ [x, y, z, 1], AFFINE @ [5, 4, 3, 1])
    assert np.array_equal(moved["region_map"] > 0, moved["volume"] == 400)
    assert moved["lesion_map"] is None


def test_shifts_cover_both_directions_and_keep_input():
    torch.manual_seed(0)
    original = case()
    shifts = {
        tuple(np.argwhere(RandomShiftCT((1, 1, 1))(original)["volume"] == 400)[0] - (3, 4, 5)) for _ in range(200)
    }
    assert len(shifts) == 27
    assert original["volume"][3, 4, 5] == 400


def test_shift_of_two_numbers_raises():
    with pytest.raises(ValueError, match=r"max_shift.*\(1, 2\)"):
        RandomShiftCT((1, 2))
