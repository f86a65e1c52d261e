"""Values that are not HU raise or warn, and real CTs pass."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from ctvlm.phantom.case import generate_case
from ctvlm.volume import CTReadError, read_ct
from ctvlm.volume.hu_check import check_hu
from ctvlm.volume.intensity import to_hu

FILES = {
    "abdomen": "ts_small_117/example_ct_sm.nii.gz",
    "trunk": "ts_thorax_abdomen_spine/example_ct.nii.gz",
    "cta_chest": "ts_aorta_lps/ct_cropped.nii.gz",
    "thorax": "elastix_lung/ct.nii.gz",
    "leg": "ibsi_sts_002/CT_image.nii.gz",
    "chest": "xcist_chest_siemens/xcist_chest_siemens.nii.gz",
    "cta_head": "ct_avm_uint8_slope/CT_AVM.nii.gz",
}
WHOLE = ("abdomen", "trunk", "cta_chest", "thorax", "leg")


@pytest.fixture(scope="module")
def real(shared_data):
    """HU of the real CTs by name, read once."""
    loaded = {}

    def load(name):
        if name not in loaded:
            step = 2 if name == "chest" else 1
            loaded[name] = np.asanyarray(nib.load(shared_data / "ct" / FILES[name]).dataobj)[::step, ::step, ::step]
        return loaded[name].astype(np.float32)

    return load


def verdict(values) -> str:
    """Result of the check: error, warning or pass."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_hu(values, "ct.nii")
        except CTReadError as error:
            assert "rescale" in str(error) and "check_range=False" in str(error)
            return "error"
    return "warning" if caught else "pass"


def padded(values, value):
    out = values.copy()
    out[: max(1, len(out) // 6)] = value
    return out


def window(values, low, high, top=255):
    return np.rint((np.clip(values, low, high) - low) / (high - low) * top)


def like_mr(values, brightest, noise):
    """T1-like: dark air and bone, bright fat, with noise around 0 in the background."""
    signal = np.interp(values, [-1100, -900, -300, -100, 0, 60, 300, 1500], [0, 5, 300, 800, 250, 400, 150, 20])
    return np.rint(signal * brightest / 800 + np.random.default_rng(0).normal(0, noise, values.shape))


def densest(values, low, high, size=(20, 20, 12)):
    """The box with the most voxels from ``low`` to ``high``."""
    share = ndimage.uniform_filter(((values >= low) & (values <= high)).astype(np.float32), size)
    inner = tuple(slice(s // 2, n - s // 2) for s, n in zip(size, values.shape))
    start = np.unravel_index(share[inner].argmax(), share[inner].shape)
    return values[tuple(slice(i, i + s) for i, s in zip(start, size))]


NOT_HU = {
    "HU + 1024": lambda a: a + 1024,
    "HU + 1024, padding -2000": lambda a: padded(a + 1024, -2000),
    "HU + 1024, padding -3024": lambda a: padded(a + 1024, -3024),
    "HU + 1024, padding -1024": lambda a: padded(a + 1024, -1024),
    "HU + 1024, padding -1": lambda a: padded(a + 1024, -1),
    "HU + 1000": lambda a: a + 1000,
    "HU + 1000, padding -1000": lambda a: padded(a + 1000, -1000),
    "HU + 8192": lambda a: a + 8192,
    "HU - 1024": lambda a: a - 1024,
    "HU - 1024, cut at -1024": lambda a: np.maximum(a - 1024, -1024),
    "HU - 1000": lambda a: a - 1000,
    "HU times 2": lambda a: a * 2,
    "HU times 3": lambda a: a * 3,
    "HU times 10": lambda a: a * 10,
    "HU halved": lambda a: a * 0.5,
    "HU divided by 4": lambda a: a * 0.25,
    "HU divided by 10": lambda a: a * 0.1,
    "HU divided by 1000": lambda a: a * 0.001,
    "zero mean, unit deviation": lambda a: (a - a.mean()) / a.std(),
    "0 to 1": lambda a: window(a, -1000, 1000, 2000) / 2000,
    "8-bit soft tissue window": lambda a: window(a, -160, 240),
    "8-bit soft tissue window, background -1": lambda a: padded(window(a, -160, 240), -1),
    "8-bit lung window, background -1": lambda a: padded(window(a, -1350, 150), -1),
    "8-bit bone window": lambda a: window(a, -500, 1300),
    "window of 0 to 500": lambda a: window(a, -160, 240, 500),
    "window of 0 to 4095": lambda a: window(a, -1000, 1000, 4095),
    "sign inverted": lambda a: -a,
    "stored values inverted": lambda a: 1024 - a,
    "sign lost": np.abs,
    "read as uint16": lambda a: np.rint(a).astype(np.int16).view(np.uint16),
    "cut to 12 bits": lambda a: np.rint(a).astype(int) & 4095,
    "like MR to 800": lambda a: like_mr(a, 800, 4),
    "like MR to 2000": lambda a: like_mr(a, 2000, 10),
    "like MR, background 0": lambda a: np.where(a < -950, 0, like_mr(a, 1200, 6)),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("kind", NOT_HU)
def test_values_that_are_not_hu_raise_or_warn(real, kind, name):
    assert verdict(NOT_HU[kind](real(name))) in ("error", "warning")


@pytest.mark.parametrize("kind", ["HU + 1024, padding -2000", "HU + 1000", "8-bit lung window, background -1",
                                  "sign inverted", "like MR to 800"])  # fmt: skip
def test_common_mistakes_raise_for_crops(real, kind):
    slices = real("thorax")[:, :, 60:62]
    assert verdict(NOT_HU[kind](slices)) == "error"


@pytest.mark.parametrize("name", FILES)
def test_real_cts_pass(real, name):
    hu = real(name)
    assert verdict(hu) == "pass"
    for padding in (-2000, -3024, -8192):
        assert verdict(padded(hu, padding)) == "pass"


CROPS = {
    "lung only": lambda a: densest(a, -950, -600),
    "bone": lambda a: densest(a, 200, 2000),
    "inside an organ": lambda a: densest(a, 0, 100),
    "bone window": lambda a: np.clip(a, -500, 1300),
    "bone window, bone only": lambda a: densest(np.clip(a, -500, 1300), 200, 2000),
    "soft tissue window": lambda a: np.clip(a, -160, 240),
    "lung window": lambda a: np.clip(a, -1350, 150),
    "two slices": lambda a: a[:, :, a.shape[2] // 2 :][:, :, :2],
    "last two slices": lambda a: a[:, :, -2:],
}


@pytest.mark.parametrize("name", ["abdomen", "trunk", "cta_chest", "thorax", "chest"])
@pytest.mark.parametrize("kind", CROPS)
def test_crops_and_clipped_ranges_of_real_cts_pass(real, kind, name):
    assert verdict(CROPS[kind](real(name))) == "pass"


@pytest.mark.parametrize("outside", [-1024, 0])
def test_a_masked_lung_passes(real, shared_data, outside):
    mask = np.asanyarray(nib.load(shared_data / "ct/elastix_lung/lung_mask.nii.gz").dataobj) > 0
    assert verdict(np.where(mask, real("thorax"), outside)) == "pass"


def test_a_head_passes():
    """Brain of 20 to 40 HU in a skull of 900 HU, without fat or lung."""
    z, y, x = np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in (16, 64, 64)], indexing="ij")
    radius = np.sqrt(0.3 * z**2 + y**2 + x**2)
    hu = np.select([radius < 0.2, radius < 0.5, radius < 0.9, radius < 1.0], [8, 25, 38, 900], -1000)
    assert verdict(hu + np.random.default_rng(0).normal(0, 6, hu.shape)) == "pass"


@pytest.mark.parametrize("factor", [1, 0.5, 2, 10])
def test_real_mr_raises_or_warns(shared_data, factor):
    mr = np.asanyarray(nib.load(shared_data / "ct/not_hu/example_mr_sm.nii.gz").dataobj)
    assert verdict(mr * factor) == ("warning" if factor == 0.5 else "error")


def test_reading_mr_raises(shared_data):
    with pytest.raises(CTReadError, match=r"example_mr_sm.*rescale=.*MR"):
        read_ct(shared_data / "ct/not_hu/example_mr_sm.nii.gz")


def test_padding_of_declared_stored_values_becomes_air(real):
    hu = np.rint(real("abdomen"))
    stored = padded(hu + 1024, -2000)
    got = to_hu(stored, "ct.nii", rescale=(1, -1024))
    np.testing.assert_array_equal(got, padded(hu, -1024))


@pytest.mark.parametrize("seed", range(3))
def test_phantoms_pass(seed):
    assert verdict(generate_case(seed, (24, 64, 64)).volume) == "pass"
