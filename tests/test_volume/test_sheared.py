"""Straightening of sheared grids (gantry tilt) keeps all tissue."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from ctvlm.volume import CTVolume, match_mask, patches_to_grid, read_ct, read_label_map, resample_to_grid
from ctvlm.volume.grids import sample_grid
from ctvlm.volume.orient import is_sheared, to_ras
from tests.test_volume.phantoms import make_ct, rotated

PAIRS = list(itertools.permutations(range(3), 2))
DEGREES = (-25, -14.3, -5, 5, 9.7, 25)
FLIPS = list(itertools.product((1, -1), repeat=3))


def sheared_affine(pair, degrees, flips, rng) -> np.ndarray:
    """Axis ``pair[0]`` tilted towards world axis ``pair[1]``; random spacing and origin, float32 as in a header."""
    tilted, towards = pair
    unit, angle = np.eye(3), np.deg2rad(degrees)
    unit[:, tilted] = 0
    unit[tilted, tilted], unit[towards, tilted] = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = unit * flips * rng.uniform(0.6, 3.0, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine.astype(np.float32).astype(np.float64)


def body(shape) -> np.ndarray:
    """Tissue up to both ends of x and z, with air along y."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.abs(y) < 0.7 - 0.1 * x**2 + 0.05 * z


@pytest.mark.parametrize("pair", PAIRS)
def test_straightening_keeps_tissue_and_end_slices(pair):
    rng = np.random.default_rng(sum(pair))
    shape = (37, 50, 22)
    inside = body(shape)
    for degrees, flips in itertools.product(DEGREES, FLIPS):
        affine = sheared_affine(pair, degrees, flips, rng)
        truth = inside.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
        labels = to_ras(inside.astype(np.uint8) * 5, affine, labels=True)
        hu = to_ras(np.where(inside, 40, -1000).astype(np.int16), affine)
        assert not is_sheared(hu.affine) and hu.shape == labels.shape and hu.array.dtype == np.int16
        # Every voxel of a label map occurs once.
        assert np.count_nonzero(labels.array) * labels.voxel_ml == pytest.approx(truth, rel=5e-4), (degrees, flips)
        assert np.count_nonzero(hu.array > -480) * hu.voxel_ml == pytest.approx(truth, rel=5e-3), (degrees, flips)
        for end in (0, -1):
            assert all((np.take(hu.array, end, axis) > -1024).any() for axis in range(3)), (degrees, flips)
            assert (hu.array[end] > -480).any() and labels.array[end].any(), (degrees, flips)


def test_tilted_stacks_lose_no_slice():
    """Columns (sx, 0, 0), (0, sy cos t, sy sin t), (0, 0, +-sz): every slice keeps its tissue."""
    rng = np.random.default_rng(0)
    for trial in range(40):
        affine = sheared_affine((1, 2), rng.uniform(5, 25) * (-1) ** trial, (1, 1, (-1) ** (trial // 2)), rng)
        hu = np.full((12, 16, 20), 40, np.int16)
        got = to_ras(hu, affine)
        assert got.shape[0] == 20
        np.testing.assert_array_equal((got.array == 40).sum(axis=(1, 2)), 12 * 16)


def test_sheared_file_matches_its_mask(tmp_path):
    rng = np.random.default_rng(4)
    affine = sheared_affine((1, 2), -12, (-1, -1, 1), rng)
    inside = body((30, 40, 16))
    hu = np.where(inside, rng.integers(20, 60, inside.shape), -1000).astype(np.int16)
    for name, array in (("ct", hu), ("mask", inside.astype(np.uint8))):
        image = nib.Nifti1Image(array, affine)
        image.set_sform(affine, 1)
        nib.save(image, tmp_path / f"{name}.nii.gz")
    ct = read_ct(tmp_path / "ct.nii.gz", check_range=False)
    mask = match_mask(read_label_map(tmp_path / "mask.nii.gz"), ct)
    assert np.count_nonzero(mask.array) == inside.sum()
    assert ct.array[mask.array > 0].min() > -500


@pytest.mark.parametrize("shift", [0.0, 1e-5, -1e-5, 0.5, 0.5 - 1e-5, 0.5 + 1e-5])
def test_rounding_errors_neither_drop_nor_duplicate_a_plane(shift):
    """Grids that differ by noise, or by half a voxel and noise (corner and centre convention)."""
    array = np.arange(1, 11, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    noise = np.random.default_rng(0).normal(0, 1e-6, 3)
    to_array = np.eye(4)
    to_array[:3, 3] = shift + noise
    to_array[0, 1:3] = noise[:2]
    for sign in (1, -1):
        moved = to_array.copy()
        if sign < 0:
            moved[0, 0], moved[0, 3] = -1, 9 + shift + noise[0]
        planes = sample_grid(array, moved, (10, 4, 4), "nearest", 0)[:, 1, 1].tolist()
        kept = [p for p in planes if p]
        assert len(set(kept)) == len(kept) >= (10 if abs(shift) < 0.1 else 9), planes
        linear = sample_grid(array, moved, (10, 4, 4), "linear", -9)
        assert (linear[:, 1, 1] >= 1).sum() == len(kept)


@pytest.mark.parametrize("degrees", [0, 12])
def test_mask_with_a_rounded_header_keeps_its_end_slices(degrees):
    """Header of the mask rounded to six digits, for the general and the separable path."""
    ct = rotated(make_ct((9, 40, 50)), degrees)
    mask = ct.with_array(np.ones(ct.shape, np.uint8))
    rounded = CTVolume(mask.array, np.array([[float(f"{x:.6g}") for x in row] for row in mask.affine]))
    assert match_mask(rounded, ct).array.all()
    assert resample_to_grid(rounded, ct.affine, ct.shape, "linear", fill=-1).array.min() == 1


def test_small_differences_of_spacing_accumulate_over_the_grid():
    """A difference of 0.09% in spacing is half a voxel after 600 voxels."""
    ct = make_ct((2, 2, 600), (1.0, 1.0, 1.0))
    ct.array[:] = np.arange(600)
    wider = ct.affine.copy()
    wider[0, 0] = 1.0009
    got = resample_to_grid(ct, wider, ct.shape)
    assert got.array[0, 0, 500] == pytest.approx(500.45, abs=0.01)


def test_patch_map_covers_the_border_voxels_of_its_grid():
    patches = CTVolume(np.ones((2, 3, 4), np.float32), np.diag([8.0, 8.0, 4.0, 1.0]))
    fine = np.diag([1.0, 1.0, 1.0, 1.0])
    fine[:3, 3] = (-4 + 1e-6, -4 - 1e-6, -2 - 1e-6)  # centre of the first voxel on the border of the first patch
    assert patches_to_grid(patches, fine, (8, 24, 32)).array.all()
