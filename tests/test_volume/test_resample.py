"""Resampling keeps the position of every point of the patient."""

from __future__ import annotations

import numpy as np
import pytest

from ctvlm.volume import (
    CTVolume,
    body_box,
    crop,
    crop_or_pad,
    resample_to_grid,
    resample_to_shape,
    resample_to_spacing,
)
from tests.test_volume.phantoms import make_ct


def ramp(shape=(12, 20, 16), spacing=(3.0, 1.5, 2.0)) -> CTVolume:
    """Value = 2x + 3y + 5z in mm: linear resampling must reproduce it away from the border."""
    ct = make_ct(shape, spacing)
    index = np.stack([*np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")[::-1], np.ones(shape)], -1)
    return CTVolume((index @ ct.affine.T)[..., :3].astype(np.float32) @ np.float32([2, 3, 5]), ct.affine)


def expected_at(volume: CTVolume) -> np.ndarray:
    index = np.stack(
        [*np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij")[::-1], np.ones(volume.shape)], -1
    )
    return (index @ volume.affine.T)[..., :3] @ [2, 3, 5]


@pytest.mark.parametrize("shape", [(12, 20, 16), (6, 10, 8), (24, 40, 32), (5, 33, 7), (12, 20, 9)])
def test_resampling_keeps_positions(shape):
    got = resample_to_shape(ramp(), shape)
    inner = tuple(slice(1 + n // 6, n - 1 - n // 6) for n in shape)
    # 0.3 is a tenth of a millimetre along the gradient: sampled filter weights are not exactly symmetric.
    np.testing.assert_allclose(got.array[inner], expected_at(got)[inner], atol=0.3)
    extent = np.array(got.shape) * got.spacing
    np.testing.assert_allclose(extent, np.array((12, 20, 16)) * (3.0, 1.5, 2.0))


def test_coarser_grid_averages():
    """A checkerboard of 0 and 100 becomes 50; nearest neighbour would give 0 or 100."""
    board = make_ct((16, 16, 16), (1.0, 1.0, 1.0))
    values = (np.indices((16, 16, 16)).sum(0) % 2 * 100).astype(np.int16)
    got = resample_to_shape(board.with_array(values), (4, 4, 4))
    assert np.abs(got.array - 50).max() <= 5
    assert got.array.dtype == np.int16


def test_resample_to_spacing():
    got = resample_to_spacing(ramp(), (4.0, 2.0, 2.0))
    assert got.shape == (9, 15, 16)
    assert got.spacing == pytest.approx((4.0, 2.0, 2.0), rel=0.04)


def test_majority_keeps_every_label():
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[:, :, :15] = 3
    labels[0, 0, 29] = 7
    volume = make_ct((30, 30, 30), (1.0, 1.0, 1.0)).with_array(labels)
    got = resample_to_shape(volume, (3, 3, 3), "majority")
    assert set(np.unique(got.array)) == {0, 3, 7}
    assert (got.array[:, :, 0] == 3).all()
    assert got.array[0, 0, 2] == 7


def test_majority_equals_a_naive_vote():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.repeat(np.repeat(rng.integers(0, 6, (4, 5, 6)), 3, 0), 3, 1), 3, 2).astype(np.uint8)
    noisy = np.where(rng.random(labels.shape) < 0.2, 0, labels)
    got = resample_to_shape(make_ct(labels.shape, (1.0, 1.0, 1.0)).with_array(noisy), (4, 5, 6), "majority").array
    blocks = noisy.reshape(4, 3, 5, 3, 6, 3).transpose(0, 2, 4, 1, 3, 5).reshape(4, 5, 6, 27)
    naive = np.array([np.bincount(b, minlength=6).argmax() for b in blocks.reshape(-1, 27)]).reshape(4, 5, 6)
    # Triangle weights include the neighbours; clear majorities must be equal.
    assert (got == naive).mean() > 0.95


def test_crop_and_pad_keep_positions():
    volume = ramp()
    cut = crop(volume, (slice(2, 9), slice(3, 20), slice(0, 5)))
    np.testing.assert_allclose(cut.array, expected_at(cut), atol=1e-3)
    padded = crop_or_pad(volume, (16, 11, 16), fill=-1)
    assert padded.shape == (16, 11, 16)
    assert (padded.array[:2] == -1).all()
    np.testing.assert_allclose(padded.array[2:14], expected_at(padded)[2:14], atol=1e-3)


def test_empty_crop_and_invalid_shapes():
    with pytest.raises(ValueError, match=r"slice\(20, 30, None\).*\(12, 20, 16\)"):
        crop(ramp(), (slice(20, 30), slice(None), slice(None)))
    with pytest.raises(ValueError, match=r"\(4, 0, 4\)"):
        resample_to_shape(ramp(), (4, 0, 4))
    with pytest.raises(ValueError, match=r"\(1\.0, -1\.0, 1\.0\)"):
        resample_to_spacing(ramp(), (1.0, -1.0, 1.0))


def test_grid_sampling_of_a_shifted_rotated_grid_keeps_positions():
    volume = ramp()
    angle = np.deg2rad(10)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    centre = (volume.affine @ [8, 10, 6, 1])[:3]
    affine = turn @ volume.affine
    affine[:3, 3] += centre - (affine @ [4, 5, 3, 1])[:3]
    got = resample_to_grid(volume, affine, (6, 10, 8))
    np.testing.assert_allclose(got.array, expected_at(got), atol=0.01)


def test_body_box_contains_the_patient_without_the_table():
    hu = np.full((30, 80, 80), -1000, np.int16)
    hu[:, 20:60, 15:65] = 30
    hu[:, 5:7, 5:75] = 100
    box = body_box(CTVolume(hu, np.diag([4.0, 4.0, 4.0, 1.0])), margin_mm=0)
    assert box == (slice(0, 30), slice(20, 60), slice(15, 65))
    assert body_box(CTVolume(np.full_like(hu, -1000), np.eye(4))) == (slice(0, 30), slice(0, 80), slice(0, 80))
