"""Files in all orientations give the same volume."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from ctvlm.volume import match_mask, read_ct, read_label_map
from tests.test_volume.phantoms import ORIENTATIONS, make_ct, save_as


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_volume_saved_in_any_orientation_reads_back_equal(orientation, tmp_path):
    ct = make_ct()
    save_as(ct, tmp_path / "ct.nii", orientation)
    assert "".join(nib.aff2axcodes(nib.load(tmp_path / "ct.nii").affine)) == orientation
    got = read_ct(tmp_path / "ct.nii")
    np.testing.assert_array_equal(got.array, ct.array)
    np.testing.assert_allclose(got.affine, ct.affine, atol=1e-4)
    assert got.orientation == "RAS"
    assert got.spacing == pytest.approx(ct.spacing)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_mask_in_another_orientation_than_its_ct_matches(orientation, tmp_path):
    ct = make_ct()
    mask = ct.with_array((ct.array > 500).astype(np.uint8) * 7)
    other = ORIENTATIONS[(ORIENTATIONS.index(orientation) * 7 + 11) % 48]
    save_as(ct, tmp_path / "ct.nii", orientation)
    save_as(mask, tmp_path / "mask.nii", other)
    got = match_mask(read_label_map(tmp_path / "mask.nii"), read_ct(tmp_path / "ct.nii"))
    np.testing.assert_array_equal(got.array, mask.array)


def test_oblique_scan_is_not_interpolated(tmp_path):
    ct = make_ct()
    angle = np.deg2rad(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    save_as(type(ct)(ct.array, turn @ ct.affine), tmp_path / "ct.nii", "LPS")
    got = read_ct(tmp_path / "ct.nii")
    np.testing.assert_array_equal(got.array, ct.array)
    np.testing.assert_allclose(got.affine, turn @ ct.affine, atol=1e-3)


@pytest.mark.parametrize("tilt", [-0.3, 0.2])
def test_gantry_tilt_in_the_sform_is_removed(tilt, tmp_path):
    """A rod along z, scanned with tilted slices, is straight after reading."""
    sheared = np.diag([1.0, 1.0, 2.0, 1.0])
    sheared[1, 2] = tilt * 2.0
    x, y, z = np.meshgrid(np.arange(20), np.arange(40), np.arange(20), indexing="ij")
    world_y = sheared[1, 1] * y + sheared[1, 2] * z
    hu = np.where(np.abs(world_y - 20) < 3, 400, -1000).astype(np.int16)
    image = nib.Nifti1Image(hu, sheared)
    image.set_sform(sheared, 1)
    nib.save(image, tmp_path / "ct.nii.gz")
    got = read_ct(tmp_path / "ct.nii.gz")
    assert got.orientation == "RAS"
    columns = got.affine[:3, :3] / np.array(got.spacing[::-1])
    np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-5)
    assert got.spacing == pytest.approx((2.0, 1.0, 1.0), abs=1e-4)
    for z_index in range(2, got.shape[0] - 2):
        rod = np.nonzero(got.array[z_index, :, 10] > -300)[0]
        assert rod.mean() * 1.0 + got.affine[1, 3] == pytest.approx(20, abs=0.6)
