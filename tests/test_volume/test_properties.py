"""Files with random headers, shapes and dtypes give a valid volume or a CTReadError."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from ctvlm.volume import CTReadError, read_ct

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

volume_shapes = st.lists(st.integers(2, 6), min_size=3, max_size=3)
# Valid values are more frequent; otherwise few examples would pass the first check.
shapes = st.one_of(volume_shapes, volume_shapes, volume_shapes, st.lists(st.integers(1, 6), min_size=1, max_size=5))
dtypes = st.sampled_from(["i2", "f4", "i2", "f8", "i4", "u1", "u2", "c8"])
entries = st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 1e-4, 1e4, float("nan"), float("inf")]))
turns = st.permutations([0, 1, 2])
signs = st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3)
sizes = st.lists(st.floats(0.2, 6), min_size=3, max_size=3)
small = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.05, -0.3]), min_size=9, max_size=9)
legal = st.builds(
    lambda turn, sign, size, bend: np.hstack(
        [(np.eye(3)[turn] * sign + np.reshape(bend, (3, 3))) * size, [[-30.0], [5.0], [900.0]]]
    ).ravel(),
    turns, signs, sizes, small,
)  # fmt: skip
affines = st.one_of(legal, legal, legal, st.lists(entries, min_size=12, max_size=12))
codes = st.sampled_from([1, 1, 2, 0, 4])
slopes = st.sampled_from(
    [(float("nan"), float("nan")), (1.0, 0.0), (float("nan"), float("nan")), (1.0, -1024.0), (0.0, 0.0), (2.2, 5.0)]
)
ranges = st.sampled_from(
    [(-1024, 1500), (0, 255), (0, 4095), (-3024, 3000), (0, 1), (-1024, -1024), (-(2**31), 2**31 - 1)]
)
MODES = st.sampled_from(["whole", "whole", "whole", "whole", "cut", "noise"])


def write(path, shape, dtype, affine, sform, qform, slope, limits, mode, seed):
    rng = np.random.default_rng(seed)
    low, high = limits
    kind = np.dtype(dtype)
    values = rng.uniform(low, high, shape)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        values = np.clip(values, info.min, info.max)
    image = nib.Nifti1Image(values.astype(kind), None)
    header = image.header
    header["sform_code"], header["qform_code"] = sform, qform
    header["srow_x"], header["srow_y"], header["srow_z"] = np.array(affine, np.float32).reshape(3, 4)
    with np.errstate(all="ignore"):
        header["pixdim"][1:4] = np.linalg.norm(np.array(affine).reshape(3, 4)[:, :3], axis=0)
    if kind.kind != "c":
        header.set_slope_inter(*(slope if slope[0] != 0 else (1.0, 0.0)))
    try:
        nib.save(image, path)
    except Exception:  # nibabel cannot write some of these headers
        hypothesis.reject()
    raw = bytearray(path.read_bytes())
    if slope[0] == 0:
        raw[112:116] = bytes(4)
    if mode == "cut":
        raw = raw[: rng.integers(0, len(raw))]
    elif mode == "noise":
        for at in rng.integers(0, min(352, len(raw)), 4):
            raw[at] = rng.integers(256)
    path.write_bytes(bytes(raw))


def check(path):
    try:
        volume = read_ct(path)
    except CTReadError as error:
        assert str(path) in str(error)
        return
    assert volume.array.ndim == 3
    assert min(volume.shape) >= 1
    assert volume.array.dtype in (np.int16, np.float32)
    assert np.isfinite(volume.array).all()
    assert volume.array.min() >= -1500
    assert volume.orientation == "RAS"
    unit = volume.affine[:3, :3] / np.array(volume.spacing[::-1])
    np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=5e-3)


def run(tmp_path_factory, examples):
    folder = tmp_path_factory.mktemp("random")

    @hypothesis.settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(st.tuples(shapes, dtypes, affines, codes, codes, slopes, ranges, MODES, st.integers(0, 2**31)))
    def reads_or_raises(example):
        path = folder / "volume.nii"
        with np.errstate(all="ignore"):
            write(path, *example)
        check(path)

    reads_or_raises()


def test_random_files_are_valid_or_raise(tmp_path_factory):
    run(tmp_path_factory, 150)


@pytest.mark.slow
def test_two_thousand_random_files_are_valid_or_raise(tmp_path_factory):
    run(tmp_path_factory, 2000)
