"""Real CTs and masks of six sources."""

from __future__ import annotations

import numpy as np
import pytest

from ctvlm.volume import match_mask, read_ct, read_label_map

sitk = pytest.importorskip("SimpleITK")
CASES = [
    ("ts_small_117/example_ct_sm.nii.gz", "ts_small_117/example_seg.nii.gz", 5, 45),
    ("ts_small_117/example_ct_sm.nii.gz", "ts_small_117/example_seg.nii.gz", 52, 42),
    ("ts_small_117/example_ct_sm.nii.gz", "ts_small_117/example_seg.nii.gz", 14, -746),
    ("ts_thorax_abdomen_spine/example_ct.nii.gz", "ts_thorax_abdomen_spine/totalseg.nii.gz", 30, None),
    ("ts_aorta_lps/ct_cropped.nii.gz", "ts_aorta_lps/aorta.nii.gz", 1, 353),
    ("elastix_lung/ct.nii.gz", "elastix_lung/lung_mask.nii.gz", 1, -896),
    ("elastix_lung/3DCT_lung.mha", "elastix_lung/lung_mask.nii.gz", 1, -896),
    ("elastix_lung/ct.nii.gz", "elastix_lung/3DCT_lung_baseline_mask.mha", 1, -896),
    ("ibsi_sts_002/CT_image.nii.gz", "ibsi_sts_002/CT_mask.nii.gz", 1, None),
]


@pytest.mark.parametrize(("ct_name", "mask_name", "label", "known"), CASES)
def test_mean_hu_equals_simpleitk_in_physical_space(shared_data, ct_name, mask_name, label, known):
    ct = read_ct(shared_data / "ct" / ct_name)
    mask = match_mask(read_label_map(shared_data / "ct" / mask_name), ct)
    got = ct.array[mask.array == label].mean()
    image = sitk.ReadImage(str(shared_data / "ct" / ct_name))
    moved = sitk.Resample(
        sitk.ReadImage(str(shared_data / "ct" / mask_name)), image, sitk.Transform(), sitk.sitkNearestNeighbor
    )
    want = sitk.GetArrayFromImage(image)[sitk.GetArrayFromImage(moved) == label].mean()
    assert got == pytest.approx(want, abs=2)
    if known is not None:
        assert got == pytest.approx(known, abs=2)


def test_slope_of_a_real_file(shared_data):
    ct = read_ct(shared_data / "ct" / "ct_avm_uint8_slope" / "CT_AVM.nii.gz")
    assert ct.array.min() == 0
    assert ct.array.max() == pytest.approx(563, abs=0.5)


def test_empty_real_mask(shared_data):
    folder = shared_data / "ct" / "ts_aorta_lps"
    with pytest.warns(UserWarning, match="iliac_artery_left"):
        name = "iliac_artery_left.nii.gz"
        assert match_mask(read_label_map(folder / name), read_ct(folder / "ct_cropped.nii.gz"), name) is None


def test_large_chest_ct(shared_data):
    ct = read_ct(shared_data / "ct" / "xcist_chest_siemens" / "xcist_chest_siemens.nii.gz")
    assert ct.shape == (102, 512, 512)
    assert ct.array.dtype == np.int16
    assert ct.spacing == pytest.approx((3.0, 0.8828125, 0.8828125))
