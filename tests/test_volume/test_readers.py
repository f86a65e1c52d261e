"""All file types give the same volume."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from ctvlm.volume import CTReadError, CTVolume, read_ct, read_label_map, write_nifti
from tests.test_volume.phantoms import make_ct, save_as

sitk = pytest.importorskip("SimpleITK")


def to_sitk(ct: CTVolume):
    image = sitk.GetImageFromArray(ct.array)
    image.SetSpacing(ct.spacing[::-1])
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin((-ct.affine[0, 3], -ct.affine[1, 3], ct.affine[2, 3]))
    return image


def write_dicom(ct: CTVolume, folder, z_of=lambda k: 3.0 * k, modality="CT", tilt=0.0):
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(ct.shape[0]):
        one = sitk.GetImageFromArray(ct.array[k])
        one.SetSpacing((0.75, 1.5))
        tags = {
            "0008|0060": modality,
            "0020|000e": "1.2.3.4",
            "0020|000d": "1.2.3",
            "0008|0018": f"1.2.3.4.{k + 1}",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0020|0032": f"-5\\{7 + tilt * z_of(k)}\\{z_of(k)}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(k + 1),
            "0028|1052": "0",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{ct.shape[0] - k:03d}.dcm"))
        writer.Execute(one)


@pytest.mark.parametrize("case", [str.lower, str.upper])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr", ".img", ".mha", ".mhd", ".nrrd", ".nhdr", ".npz"])
def test_all_file_types_give_the_same_volume(suffix, case, tmp_path):
    ct = make_ct()
    path = tmp_path / f"ct{suffix}"
    if suffix in (".hdr", ".img"):
        nib.save(nib.Nifti1Pair(ct.array.transpose(2, 1, 0), ct.affine), path)
    elif suffix.startswith(".nii"):
        write_nifti(ct, path)
    elif suffix == ".npz":
        np.savez(path, volume=ct.array, affine=ct.affine)
    else:
        sitk.WriteImage(to_sitk(ct), str(path))
    for file in tmp_path.iterdir():
        if file.suffix not in (".raw", ".zraw") and not file.name.endswith(".raw.gz"):
            file.rename(file.with_name(f"ct{case(file.name[2:])}"))
    got = read_ct(tmp_path / f"ct{case(suffix)}")
    np.testing.assert_array_equal(got.array, ct.array)
    assert got.array.dtype == np.int16
    np.testing.assert_allclose(got.affine, ct.affine, atol=1e-4)


def test_dicom_series_reads_in_patient_order(tmp_path):
    ct = make_ct()
    write_dicom(ct, tmp_path / "series")
    got = read_ct(tmp_path / "series")
    # The axes of the file are LPS, those of the volume RAS.
    np.testing.assert_array_equal(got.array, ct.array[:, ::-1, ::-1])
    assert got.spacing == pytest.approx((3.0, 1.5, 0.75))


def test_dicom_gantry_tilt_is_removed(tmp_path):
    write_dicom(make_ct((6, 20, 20)), tmp_path / "series", tilt=0.3)
    got = read_ct(tmp_path / "series")
    assert got.spacing == pytest.approx((3.0, 1.5, 0.75), abs=1e-3)
    assert got.shape[1] > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(z_of=lambda k: 3.0 * k + 3.0 * (k > 2)), r"004\.dcm"),
        (dict(modality="MR"), "modality MR"),
    ],
)
def test_dicom_with_a_gap_or_of_mr_raises(options, message, tmp_path):
    write_dicom(make_ct(), tmp_path / "series", **options)
    with pytest.raises(CTReadError, match=message):
        read_ct(tmp_path / "series")


def test_rad_chestct_npz_is_recognised(tmp_path):
    ct = make_ct(spacing=(0.8, 0.8, 0.8))
    np.savez(tmp_path / "a.npz", ct=ct.array[::-1, ::-1, ::-1])
    got = read_ct(tmp_path / "a.npz")
    np.testing.assert_array_equal(got.array, ct.array)
    assert got.spacing == pytest.approx((0.8, 0.8, 0.8))


def test_scaled_npz_requires_declared_rescale_and_spacing(tmp_path):
    ct = make_ct()
    np.savez(tmp_path / "a.npz", arr_0=(np.clip(ct.array, -1000, 1000) / 1000.0)[None, None].astype(np.float32))
    with pytest.raises(CTReadError, match="spacing=.*axes="):
        read_ct(tmp_path / "a.npz")
    with pytest.raises(CTReadError, match=r"rescale=\(1000, 0\)"):
        read_ct(tmp_path / "a.npz", spacing=ct.spacing, axes="SAR")
    got = read_ct(tmp_path / "a.npz", spacing=ct.spacing, axes="SAR", rescale=(1000, 0))
    np.testing.assert_allclose(got.array, np.clip(ct.array, -1000, 1000), atol=0.01)
    assert got.spacing == pytest.approx(ct.spacing)


def test_declared_spacing_and_rescale_for_an_empty_header(tmp_path):
    """As in CT-RATE's first release: stored values without geometry."""
    ct = make_ct()
    image = nib.Nifti1Image((ct.array + 8192).transpose(2, 1, 0).astype(np.int16), None)
    nib.save(image, tmp_path / "v1.nii.gz")
    with pytest.raises(CTReadError, match="spacing.*orientation.*position"):
        read_ct(tmp_path / "v1.nii.gz")
    got = read_ct(tmp_path / "v1.nii.gz", rescale=(1, -8192), spacing=ct.spacing, axes="RAS")
    np.testing.assert_array_equal(got.array, ct.array)
    assert got.spacing == pytest.approx(ct.spacing)


def test_slope_is_applied_once(tmp_path):
    ct = make_ct()
    stored = ((ct.array.transpose(2, 1, 0) + 1024.0) / 0.5).astype(np.int16)
    image = nib.Nifti1Image(stored, ct.affine)
    # nibabel stores the array unchanged if the header has a slope.
    image.header.set_slope_inter(0.5, -1024)
    nib.save(image, tmp_path / "ct.nii")
    assert nib.load(tmp_path / "ct.nii").dataobj.slope == 0.5
    np.testing.assert_array_equal(read_ct(tmp_path / "ct.nii").array, ct.array)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_integer_values_become_int16(dtype, tmp_path):
    ct = make_ct()
    save_as(ct, tmp_path / "ct.nii", dtype=dtype)
    got = read_ct(tmp_path / "ct.nii")
    assert got.array.dtype == np.int16
    np.testing.assert_array_equal(got.array, ct.array)


@pytest.mark.parametrize("padding", [-2000, -3024, -8192])
def test_padding_becomes_air(padding, tmp_path):
    ct = make_ct()
    hu = ct.array.copy()
    hu[:, :3] = padding
    save_as(ct.with_array(hu), tmp_path / "ct.nii")
    got = read_ct(tmp_path / "ct.nii")
    assert (got.array[:, :3] == -1024).all()
    np.testing.assert_array_equal(got.array[:, 3:], ct.array[:, 3:])


def test_two_slices_are_a_thin_volume(tmp_path):
    ct = make_ct((2, 8, 10))
    save_as(ct, tmp_path / "ct.nii")
    assert read_ct(tmp_path / "ct.nii").shape == (2, 8, 10)


def test_label_map_of_floats_becomes_ids(tmp_path):
    ct = make_ct()
    save_as(ct.with_array((ct.array > 0).astype(np.float32) * 117), tmp_path / "m.nii")
    got = read_label_map(tmp_path / "m.nii")
    assert got.array.dtype == np.uint8
    assert set(np.unique(got.array)) == {0, 117}


@pytest.mark.parametrize("name", ["CT.NII", "CT.NII.GZ"])
def test_written_names_keep_their_case(name, tmp_path):
    ct = make_ct()
    write_nifti(ct, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(read_ct(tmp_path / name).array, ct.array)


def test_analyze_pair_requires_declared_geometry(tmp_path):
    """Analyze 7.5 headers have no orientation."""
    ct = make_ct()
    nib.save(nib.AnalyzeImage(ct.array.transpose(2, 1, 0), ct.affine), tmp_path / "ct.img")
    with pytest.raises(CTReadError, match="spacing=.*axes="):
        read_ct(tmp_path / "ct.hdr")
    got = read_ct(tmp_path / "ct.img", spacing=ct.spacing, axes="RAS")
    np.testing.assert_array_equal(got.array, ct.array)


@pytest.mark.parametrize(("name", "missing"), [("ct.hdr", "ct.img"), ("ct.img", "ct.hdr"), ("ct.nhdr", "ct.raw")])
def test_error_for_half_of_a_pair_states_the_missing_file(name, missing, tmp_path):
    ct = make_ct()
    if name.endswith(".nhdr"):
        sitk.WriteImage(to_sitk(ct), str(tmp_path / name))
    else:
        nib.save(nib.Nifti1Pair(ct.array.transpose(2, 1, 0), ct.affine), tmp_path / name)
    (tmp_path / missing).unlink()
    with pytest.raises(CTReadError, match=missing):
        read_ct(tmp_path / name)


def test_write_nifti_leaves_no_temporary_file(tmp_path):
    write_nifti(make_ct(), tmp_path / "a" / "ct.nii.gz")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["ct.nii.gz"]
    with gzip.open(tmp_path / "a" / "ct.nii.gz") as file:
        assert file.read(4) == (348).to_bytes(4, "little")
