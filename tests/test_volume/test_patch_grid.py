"""Patch maps keep their position on the patch grid and on the grid of the file."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from ctvlm.volume import (
    CTVolume,
    patch_grid_affine,
    patches_to_grid,
    peak_mm,
    read_ct,
    read_grid,
    resample_to_shape,
    write_nifti,
)
from tests.test_volume.phantoms import make_ct, rotated, save_as


def test_patch_centres_are_the_mean_of_their_voxels():
    affine = rotated(make_ct((8, 12, 9)), 17).affine
    found = patch_grid_affine(affine, (8, 12, 9), (2, 4, 3))
    voxels = np.array([(x, y, z, 1) for z in range(4, 8) for y in range(3, 6) for x in range(6, 9)])
    np.testing.assert_allclose(found @ (2, 1, 1, 1), (affine @ voxels.T).mean(axis=1))
    with pytest.raises(ValueError, match=r"\(3, 4, 3\).*\(8, 12, 9\)"):
        patch_grid_affine(affine, (8, 12, 9), (3, 4, 3))


@pytest.mark.parametrize(("orientation", "degrees"), [("RAS", 0), ("LPS", 0), ("ASL", 0), ("RAS", 20), ("LPS", 20)])
def test_bright_spot_keeps_its_position_on_the_grid_of_the_file(tmp_path, orientation, degrees):
    """From file to encoder grid, patches and file: the peak is within one patch of the spot."""
    ct = rotated(make_ct((20, 40, 44), spacing=(4.0, 2.0, 1.5)), degrees)
    ct.array[:] = -1000
    ct.array[13:15, 9:12, 30:34] = 3000
    spot = (ct.affine @ (31.5, 10, 13.5, 1))[:3]
    save_as(ct, tmp_path / "ct.nii.gz", orientation)

    read = read_ct(tmp_path / "ct.nii.gz")
    grid = resample_to_shape(read, (12, 32, 32))
    means = grid.array.reshape(4, 3, 4, 8, 4, 8).mean(axis=(1, 3, 5))
    patches = CTVolume(means + 1000, patch_grid_affine(grid.affine, grid.shape, means.shape))
    shape, affine = read_grid(tmp_path / "ct.nii.gz")
    write_nifti(patches_to_grid(patches, affine, shape), tmp_path / "map.nii.gz")

    image, written = nib.load(tmp_path / "ct.nii.gz"), nib.load(tmp_path / "map.nii.gz")
    assert written.shape == image.shape
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-4)
    assert nib.aff2axcodes(written.affine) == tuple(orientation) or degrees
    at = np.unravel_index(np.argmax(written.get_fdata()), written.shape)
    off = np.linalg.inv(patches.affine)[:3, :3] @ (nib.affines.apply_affine(written.affine, at) - spot)
    assert np.abs(off).max() < 1, f"{off} patches"
    np.testing.assert_allclose(peak_mm(patches), spot, atol=max(patches.spacing))


def test_border_patches_are_constant_and_outside_is_zero():
    patches = CTVolume(np.arange(1, 9, dtype=float).reshape(2, 2, 2), np.diag([4.0, 4.0, 4.0, 1.0]))
    fine = np.diag([1.0, 1.0, 1.0, 1.0])
    fine[:3, 3] = -4
    out = patches_to_grid(patches, fine, (14, 14, 14)).array
    inside = slice(2, 10)  # -2 to 6 mm: field of view of the patches
    assert (out[inside, inside, inside] > 0).all()
    assert np.count_nonzero(out) == 8**3
    assert out[2, 2, 2] == 1 and out[9, 9, 9] == 8
    assert out[2, 2, 6] == pytest.approx(1.5)
    labels = patches_to_grid(patches.with_array(patches.array.astype(np.uint8)), fine, (14, 14, 14), "nearest").array
    assert labels.dtype == np.uint8 and [np.count_nonzero(labels == i) for i in (1, 8)] == [64, 64]


def test_parallel_axes_equal_the_general_case():
    """Compare the separable path with the general path, which a tiny tilt selects."""
    rng = np.random.default_rng(0)
    patches = CTVolume(rng.random((3, 4, 5)), np.diag([9.0, 8.0, 7.0, 1.0]))
    flipped = np.diag([-1.3, 0.9, -2.1, 1.0])
    flipped[:3, 3] = (44, -9, 25)
    tilted = flipped.copy()
    tilted[0, 1] = 1e-4
    parallel, general = (patches_to_grid(patches, affine, (21, 40, 50)).array for affine in (flipped, tilted))
    assert 0.2 < (parallel > 0).mean() < 0.9
    differs = np.abs(parallel - general) > 2e-3  # voxels on the border of the field of view may differ
    assert differs.mean() < 1e-3


def test_slope_of_written_files(tmp_path):
    steps = CTVolume(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.diag([2.0, 2.0, 5.0, 1.0]))
    write_nifti(steps, tmp_path / "a.nii.gz", slope=0.25)
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(image.get_fdata(), steps.array.transpose(2, 1, 0) * 0.25)
