"""Invalid files raise a CTReadError with the path and the cause."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctvlm.volume import CTReadError, read_ct, read_label_map
from tests.test_volume.phantoms import make_ct, save_as

CT = make_ct((8, 16, 16))


def nifti(path: Path, array: np.ndarray, affine=CT.affine) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def truncated(path: Path) -> Path:
    save_as(CT, path.with_suffix(".nii.gz"))
    whole = path.with_suffix(".nii.gz").read_bytes()
    path.with_suffix(".nii.gz").write_bytes(whole[: len(whole) // 2])
    return path.with_suffix(".nii.gz")


def with_nan(path: Path) -> Path:
    hu = CT.array.astype(np.float32)
    hu[0, 0, 0] = np.nan
    return nifti(path, hu)


def rgb(path: Path) -> Path:
    return nifti(path, np.zeros((8, 8, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def nan_header(path: Path) -> Path:
    return with_sform(path, np.full((4, 4), np.nan))


def flat_header(path: Path) -> Path:
    affine = CT.affine.copy()
    affine[:3, 2] = affine[:3, 1]
    return with_sform(path, affine)


def with_sform(path: Path, affine: np.ndarray) -> Path:
    image = nib.Nifti1Image(CT.array, None)
    image.header["sform_code"] = 1
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = affine[:3]
    nib.save(image, path)
    return path


def text(path: Path) -> Path:
    path.write_text("this is no image")
    return path


def picture(path: Path) -> Path:
    target = path.with_suffix(".jpg")
    target.write_bytes(b"\xff\xd8")
    return target


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


TISSUE = np.random.default_rng(1).integers(-100, 100, CT.shape, dtype=np.int16)
BAD = {
    "NaN": (with_nan, "1 NaN"),
    "infinite": (lambda p: nifti(p, np.where(CT.array > 0, np.inf, 0.0)), "infinite"),
    "RGB": (rgb, r"dtype \[\('R', 'u1'\)"),
    "complex": (lambda p: nifti(p, CT.array.astype(np.complex64)), "dtype complex64"),
    "4D": (lambda p: nifti(p, np.stack([CT.array] * 2, -1)), r"shape \(8, 16, 16, 2\)"),
    "2D": (lambda p: nifti(p, CT.array[0]), "3 axes"),
    "one slice": (lambda p: nifti(p, CT.array[:1]), r"shape \(1, 16, 16\)"),
    "constant": (lambda p: nifti(p, np.zeros(CT.shape, np.int16)), "value 0"),
    "unsigned raw": (lambda p: nifti(p, (CT.array + 1024).astype(np.uint16)), r"rescale=.*\(1, -1024\)"),
    "0 to 1": (lambda p: nifti(p, (CT.array / 3000 + 0.4).astype(np.float32)), r"rescale=\(1000, 0\)"),
    "8 bit": (lambda p: nifti(p, (CT.array % 256).astype(np.uint8)), "8-bit"),
    "huge": (lambda p: nifti(p, CT.array.astype(np.int32) * 50), "rescale="),
    "rescaled twice": (
        lambda p: nifti(p, np.where(CT.array < -300, np.int16(-2048), TISSUE - np.int16(1024))),
        "intercept.* twice",
    ),
    "only padding": (lambda p: nifti(p, np.int16(-3024) - CT.array % 2), "-1500"),
    "truncated gzip": (truncated, "EOFError"),
    "metres": (lambda p: nifti(p, CT.array, np.diag([7e-4, 7e-4, 1e-3, 1])), r"0\.0007.*50\.0 mm"),
    "NaN affine": (nan_header, "nan.*mm"),
    "flat affine": (flat_header, "sform"),
    "text": (text, "ImageFileError"),
    "jpeg": (picture, r"'\.jpg'"),
    "no DICOM": (empty_folder, "0 DICOM series"),
}


@pytest.mark.parametrize("kind", BAD)
def test_invalid_files_raise_with_path_and_cause(kind, tmp_path):
    make, message = BAD[kind]
    path = make(tmp_path / "volume.nii")
    with pytest.raises(CTReadError, match=message) as caught:
        read_ct(path)
    assert caught.value.path == str(path) and str(path) in str(caught.value)
    assert caught.value.expected in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.nii.gz"):
        read_ct(tmp_path / "gone.nii.gz")


@pytest.mark.parametrize(
    ("values", "message"),
    [(CT.array, r"-1000.*0\.\.65535"), (CT.array / 7.0, "integer"), (CT.array * np.nan, "NaN")],
)
def test_an_image_is_not_a_mask(values, message, tmp_path):
    with pytest.raises(CTReadError, match=message):
        read_label_map(nifti(tmp_path / "m.nii", values))


def test_check_range_false_accepts_other_values(tmp_path):
    path = nifti(tmp_path / "raw.nii", (CT.array + 1024).astype(np.uint16))
    assert read_ct(path, check_range=False).array.min() >= 0
    assert read_ct(path, rescale=(1, -1024)).array.min() == CT.array.min()


def test_invalid_axes(tmp_path):
    save_as(CT, tmp_path / "ct.nii")
    with pytest.raises(ValueError, match="'LPX'"):
        read_ct(tmp_path / "ct.nii", axes="LPX")


def test_error_can_be_pickled():
    error = CTReadError("a.nii", "x", "y", "z")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (bytes of this test)
    assert str(again) == str(error)
