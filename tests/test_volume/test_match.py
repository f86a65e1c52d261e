"""Masks are matched to their CT in physical space."""

from __future__ import annotations

import numpy as np
import pytest

from ctvlm.volume import CTVolume, MaskMismatchError, crop, match_mask, resample_to_shape
from tests.test_volume.phantoms import make_ct


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero((a == b) & (a > 0)) / (np.count_nonzero(a) + np.count_nonzero(b))


def ball(shape=(24, 40, 40), spacing=(3.0, 1.5, 1.5)) -> tuple[CTVolume, CTVolume]:
    ct = make_ct(shape, spacing)
    z, y, x = np.meshgrid(*[(np.arange(n) - n / 2 + 0.3) * s for n, s in zip(shape, spacing)], indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    return ct, ct.with_array(np.where(radius < 12, 5, np.where(radius < 22, 9, 0)).astype(np.uint8))


def test_mask_on_a_crop_of_the_grid_matches_exactly():
    ct, mask = ball()
    got = match_mask(crop(mask, (slice(4, 22), slice(3, 39), slice(2, 38))), ct)
    assert dice(got.array, mask.array) == 1.0
    assert got.shape == ct.shape


def test_mask_larger_than_the_ct_is_cropped():
    ct, mask = ball()
    box = (slice(8, 20), slice(5, 30), slice(10, 40))
    got = match_mask(mask, crop(ct, box))
    np.testing.assert_array_equal(got.array, mask.array[box])


def test_mask_on_a_finer_grid_matches():
    ct, mask = ball()
    fine = resample_to_shape(mask, (48, 80, 80), "nearest")
    assert dice(match_mask(fine, ct).array, mask.array) >= 0.99


def test_position_counts_not_the_index():
    ct, mask = ball()
    moved = CTVolume(mask.array, mask.affine.copy())
    moved.affine[0, 3] += 3.0  # two voxels to the right
    got = match_mask(moved, ct)
    np.testing.assert_array_equal(got.array[:, :, 2:], mask.array[:, :, :-2])


def test_mask_outside_the_ct_raises_with_both_positions():
    ct, mask = ball()
    far = CTVolume(mask.array, mask.affine.copy())
    far.affine[2, 3] += 500
    with pytest.raises(MaskMismatchError, match=r"liver\.nii.*\[\d+, \d+\] mm.*\[\d+, \d+\] mm"):
        match_mask(far, ct, name="liver.nii")


def test_empty_mask_warns():
    ct, mask = ball()
    with pytest.warns(UserWarning, match=r"gone\.nii"):
        assert match_mask(mask.with_array(np.zeros_like(mask.array)), ct, name="gone.nii") is None


def test_mask_mostly_outside_warns():
    ct, mask = ball()
    with pytest.warns(UserWarning, match=r"mask: only \d+%"):
        match_mask(mask, crop(ct, (slice(0, 9), slice(None), slice(None))))
