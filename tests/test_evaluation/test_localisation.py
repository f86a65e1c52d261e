import math

import numpy as np
import pytest

from ctvlm.evaluation.functional import (
    centroid_distance_mm,
    heat_to_mask,
    hit_rate,
    mask_dice,
    mask_iou,
    patches_to_voxels,
    peak_distance_mm,
    peak_hit,
    slice_centre_error_mm,
    slice_error_mm,
    surface_distances_mm,
)

SPACING = (3.0, 1.0, 0.5)


def masks(number=200, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        shape = tuple(rng.integers(2, 6, 3))
        yield rng.random(shape) < rng.random(), rng.random(shape) < rng.random(), rng


def test_overlaps_equal_set_operations():
    for a, b, _ in masks():
        left, right = set(zip(*np.nonzero(a), strict=True)), set(zip(*np.nonzero(b), strict=True))
        iou = len(left & right) / len(left | right) if left | right else math.nan
        dice = 2 * len(left & right) / (len(left) + len(right)) if left or right else math.nan
        assert mask_iou(a, b) == pytest.approx(iou, nan_ok=True)
        assert mask_dice(a, b) == pytest.approx(dice, nan_ok=True)


def surface(mask):
    padded = np.pad(mask, 1)
    inside = [
        z
        for z in np.argwhere(mask)
        if any(not padded[tuple(z + 1 + s * e)] for e in np.eye(3, dtype=int) for s in (-1, 1))
    ]
    return np.array(inside) * SPACING


def test_distances_equal_naive_loops():
    for a, b, rng in masks(seed=1):
        heat = rng.integers(0, 4, a.shape).astype(float)
        if b.any():
            lesion = np.argwhere(b) * SPACING
            worst = max(
                min(np.linalg.norm(lesion - peak * SPACING, axis=1)) for peak in np.argwhere(heat == heat.max())
            )
            assert peak_distance_mm(heat, b, SPACING) == pytest.approx(worst, abs=1e-6)
            profile = heat.sum(axis=(1, 2))
            slices = [z for z in range(len(b)) if b[z].any()]
            best = [z for z in range(len(b)) if profile[z] == profile.max()]
            assert slice_error_mm(heat, b, SPACING) == max(min(abs(z - s) for s in slices) * 3.0 for z in best)
        if a.any() and b.any():
            near = [
                [min(np.linalg.norm(target - p, axis=1)) for p in source]
                for source, target in ((surface(a), surface(b)), (surface(b), surface(a)))
            ]
            got = surface_distances_mm(a, b, SPACING)
            assert got["assd"] == pytest.approx(np.mean(near[0] + near[1]), abs=1e-6)
            assert got["hd95"] == pytest.approx(max(np.percentile(d, 95) for d in near), abs=1e-6)


def test_slice_centres_equal_a_naive_loop():
    rng = np.random.default_rng(3)
    for _ in range(200):
        grid = tuple(rng.integers(1, 5, 3))
        attention, occupancy = rng.random(grid) + 0.01, rng.random(grid) * (rng.random(grid) < 0.3)
        centres = []
        for weights in (attention, occupancy):
            voxels = [(z, weights[z, y, x]) for z in range(grid[0]) for y in range(grid[1]) for x in range(grid[2])]
            total = sum(w for _, w in voxels)
            centres.append(sum(z * w for z, w in voxels) / total if total else math.nan)
        got = slice_centre_error_mm(attention.ravel(), occupancy.ravel(), grid, 12.5)
        assert got == pytest.approx(abs(centres[0] - centres[1]) * 12.5, abs=1e-9, nan_ok=True)


def test_slice_centres_of_empty_and_invalid_maps():
    grid, some = (4, 1, 1), np.array([0, 0, 0, 1.0])
    assert slice_centre_error_mm(some, some, grid, 5) == 0
    assert slice_centre_error_mm(some[::-1], some, grid, 5) == 15
    assert slice_centre_error_mm(np.zeros(4), some, grid, 5) == slice_centre_error_mm(np.ones(4), some, grid, 5) == 7.5
    assert math.isnan(slice_centre_error_mm(some, np.zeros(4), grid, 5))
    for bad in (np.full(4, np.nan), -some, np.ones(3)):
        with pytest.raises(ValueError, match="attention .*\\(4, 1, 1\\)"):
            slice_centre_error_mm(bad, some, grid, 5)


def test_known_distances():
    a, b = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    a[0, 0, 0], b[2, 0, 0] = True, True
    assert centroid_distance_mm(a, b, SPACING) == 6
    assert surface_distances_mm(a, b, SPACING) == {"assd": 6, "hd95": 6}
    heat = a.astype(float)
    assert peak_distance_mm(heat, b, SPACING) == 6
    assert peak_distance_mm(heat, a, SPACING) == 0
    assert peak_hit(heat, a) == 1
    assert slice_error_mm(heat, b, SPACING) == 6


def test_constant_map_is_a_miss():
    truth = np.zeros((3, 3, 3), bool)
    truth[0, 0, 0] = True
    flat = np.full((3, 3, 3), 0.1)
    assert peak_hit(flat, truth) == 0
    assert peak_distance_mm(flat, truth, (1, 1, 1)) == pytest.approx(math.sqrt(12))
    assert slice_error_mm(flat, truth, (1, 1, 1)) == 2
    assert not heat_to_mask(flat).any()


def test_empty_masks_are_undefined():
    empty, some, heat = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool), np.arange(8.0).reshape(2, 2, 2)
    assert math.isnan(mask_iou(empty, empty))
    assert math.isnan(mask_dice(empty, empty))
    assert mask_iou(empty, some) == mask_dice(some, empty) == 0
    for value in (
        centroid_distance_mm(empty, some, SPACING),
        surface_distances_mm(some, empty, SPACING)["hd95"],
        peak_distance_mm(heat, empty, SPACING),
        peak_hit(heat, empty),
        slice_error_mm(heat, empty, SPACING),
        hit_rate([math.nan])[0.5],
        hit_rate([])[0.5],
    ):
        assert math.isnan(value)


def test_hit_rate_excludes_nan():
    assert hit_rate([0.1, 0.05, 0.6, math.nan], (0.1, 0.5)) == {0.1: pytest.approx(2 / 3), 0.5: pytest.approx(1 / 3)}


def test_patch_values_on_voxels():
    values = np.arange(2 * 1 * 3)
    voxels = patches_to_voxels(values, (2, 1, 3), (4, 2, 6))
    assert voxels.shape == (4, 2, 6)
    assert all(voxels[z, y, x] == values[(z // 2) * 3 + x // 2] for z in range(4) for y in range(2) for x in range(6))
    with pytest.raises(ValueError, match=r"\(2, 1, 3\).*\(4, 2, 7\)"):
        patches_to_voxels(values, (2, 1, 3), (4, 2, 7))


def test_smooth_patches_are_linear_between_their_centres():
    rng = np.random.default_rng(4)
    for _ in range(20):
        grid, factors = rng.integers(1, 5, 3), rng.integers(1, 5, 3)
        values = rng.random(tuple(grid))
        shape = tuple(grid * factors)
        centres = [(np.arange(-1, n + 1) + 0.5) * f for n, f in zip(grid, factors, strict=True)]
        expected = np.pad(values, 1, constant_values=values.min())
        for axis, (middle, size) in enumerate(zip(centres, shape, strict=True)):
            expected = np.apply_along_axis(
                lambda v, m=middle, s=size: np.interp(np.arange(s) + 0.5, m, v), axis, expected
            )
        np.testing.assert_allclose(patches_to_voxels(values.ravel(), grid, shape, smooth=True), expected, atol=1e-9)
    assert np.ptp(patches_to_voxels(np.full(8, 0.1), (2, 2, 2), (6, 10, 14), smooth=True)) == 0


def test_rejects_different_grids_and_nan():
    with pytest.raises(ValueError, match=r"\(2, 2, 2\).*\(2, 2, 3\)"):
        mask_iou(np.ones((2, 2, 2)), np.ones((2, 2, 3)))
    with pytest.raises(ValueError, match="NaN"):
        peak_hit(np.full((2, 2, 2), np.nan), np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="NaN"):
        mask_dice(np.full((2, 2, 2), np.nan), np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match=r"\[1\.0, 0\.0, 1\.0\]"):
        centroid_distance_mm(np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 0, 1))
