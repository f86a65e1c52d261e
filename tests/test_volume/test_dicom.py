"""Reading of DICOM series and enhanced CT, and errors for other DICOM files."""

from __future__ import annotations

import numpy as np
import pytest

from ctvlm.volume import CTReadError, read_ct, read_label_map
from tests.test_volume.phantoms import make_ct

pytest.importorskip("pydicom", reason="DICOM needs pydicom: pip install 'ctvlm[dicom]'")
pytest.importorskip("SimpleITK", reason="DICOM needs SimpleITK: pip install 'ctvlm[dicom]'")

from tests.test_volume.dicom_files import data_set, write_enhanced, write_series, write_slice

CT = make_ct()
AFFINE = [[0.75, 0, 0, 5 - 0.75 * 9], [0, 1.5, 0, -7 - 1.5 * 7], [0, 0, 3, 0], [0, 0, 0, 1]]


def is_ct(volume, hu=CT.array) -> None:
    # The axes of the file point to L and P, those of the volume to R, A, S.
    np.testing.assert_array_equal(volume.array, hu[:, ::-1, ::-1])
    np.testing.assert_allclose(volume.affine, AFFINE)


@pytest.mark.parametrize("suffix", [".dcm", ".DCM", ".IMA", ""])
def test_slices_are_ordered_by_position_not_by_file_name(suffix, tmp_path):
    write_series(tmp_path / "s", CT.array, suffix=suffix)
    (tmp_path / "s" / "notes.txt").write_text("no image")
    is_ct(read_ct(tmp_path / "s"))


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 4, 3]])
@pytest.mark.parametrize("where", ["folder", "file", "file without a suffix"])
def test_enhanced_ct(where, order, tmp_path):
    path = tmp_path / "e" / ("IM0001" if where == "file without a suffix" else "ct.DCM")
    write_enhanced(path, CT.array, order)
    is_ct(read_ct(path.parent if where == "folder" else path))


def test_enhanced_ct_with_a_slope_for_each_frame(tmp_path):
    hu = CT.array // 4 * 4
    write_enhanced(tmp_path / "ct.dcm", hu, [2, 0, 1, 3, 5, 4], slopes=[1, 2, 4, 1, 2, 0.5])
    is_ct(read_ct(tmp_path / "ct.dcm"), hu)


def test_folder_with_two_series_requires_key_or_path(tmp_path):
    write_enhanced(tmp_path / "s" / "a.dcm", CT.array, uid="1.7")
    write_series(tmp_path / "s", CT.array[:4], uid="1.8")
    with pytest.raises(CTReadError, match=r"2 DICOM series.*key=.*1\.8 \(CT, 4 images\).*1\.7 \(CT, 6 images\)"):
        read_ct(tmp_path / "s")
    is_ct(read_ct(tmp_path / "s", key="1.7"))
    is_ct(read_ct(tmp_path / "s" / "a.dcm"))
    assert read_ct(tmp_path / "s", key="1.8").shape == (4, 8, 10)


def wrong_key(folder):
    write_series(folder, CT.array)
    return dict(key="9.9")


def localizer(folder):
    write_series(folder, CT.array)
    write_slice(folder / "scout.dcm", CT.array[0], 0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def reformat(folder):
    write_series(folder, CT.array)
    write_slice(folder / "cor.dcm", CT.array[0], 0, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])


def dose_report(folder):
    folder.mkdir()
    data_set("1.2.840.10008.5.1.4.1.1.88.67", Modality="SR").save_as(folder / "dose.dcm", enforce_file_format=True)


def dose_page(folder):
    write_series(folder, CT.array)
    write_slice(folder / "page.dcm", CT.array[0], 0, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")


def segmentation(folder):
    folder.mkdir()
    ds = data_set("1.2.840.10008.5.1.4.1.1.66.4", CT.array, Modality="SEG", NumberOfFrames=6)
    ds.save_as(folder / "seg.dcm", enforce_file_format=True)


def two_spacings(folder):
    write_series(folder, CT.array)
    for k in range(4):
        write_slice(folder / f"far{k}.dcm", CT.array[k], 15 + 5 * (k + 1))


def missing_slice(folder):
    write_series(folder, make_ct((12, 8, 10)).array)
    (folder / "1_005.dcm").unlink()


def two_phases(folder):
    write_series(folder, CT.array)
    for k in range(6):
        write_slice(folder / f"late{k}.dcm", CT.array[k], 3.0 * k)


def no_spacing(folder):
    write_series(folder, CT.array, PixelSpacing=None)


def cut_slice(folder):
    write_series(folder, CT.array)
    file = folder / "1_003.dcm"
    file.write_bytes(file.read_bytes()[:-60])


ERRORS = {
    "wrong key": (wrong_key, r"9\.9.*1\.2\.3\.4 \(CT, 6 images"),
    "localizer": (localizer, r"localizer.*scout\.dcm \(1 of 7"),
    "another reformat": (reformat, "orientations"),
    "dose report": (dose_report, r"\(SR\)"),
    "dose page": (dose_page, r"screen capture.*page\.dcm \(1 of 7"),
    "SEG": (segmentation, r"\(SEG\).*NIfTI"),
    "no Modality": (lambda f: write_series(f, CT.array, Modality=None), r"modality='CT'"),
    "MR": (lambda f: write_series(f, CT.array, Modality="MR"), "modality MR"),
    "two slice spacings": (two_spacings, r"3\.00 mm \(5 gaps\) and 5\.00 mm \(4 gaps\)"),
    "a missing slice": (missing_slice, r"1_006\.dcm"),
    "two phases": (two_phases, "6 slices.* phases"),
    "no pixel spacing": (no_spacing, "PixelSpacing of frame 1"),
    "truncated": (cut_slice, "RuntimeError"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_state_the_cause(kind, tmp_path):
    make, message = ERRORS[kind]
    options = make(tmp_path / "s") or {}
    with pytest.raises(CTReadError, match=message):
        read_ct(tmp_path / "s", **options)


def test_dicom_seg_as_a_mask(tmp_path):
    segmentation(tmp_path / "s")
    for path in (tmp_path / "s", tmp_path / "s" / "seg.dcm"):
        with pytest.raises(CTReadError, match=r"\(SEG\).*segimage2itkimage"):
            read_label_map(path)


def test_path_of_one_slice(tmp_path):
    write_series(tmp_path / "s", CT.array)
    with pytest.raises(CTReadError, match=r"1_001\.dcm.*folder"):
        read_ct(tmp_path / "s" / "1_001.dcm")


def test_a_missing_modality_can_be_declared(tmp_path):
    write_series(tmp_path / "s", CT.array, Modality=None)
    is_ct(read_ct(tmp_path / "s", modality="CT"))
    write_series(tmp_path / "mr", CT.array, Modality="MR")
    with pytest.raises(CTReadError, match="modality MR"):
        read_ct(tmp_path / "mr", modality="CT")
    (tmp_path / "a.nii").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.nii.*modality='CT'"):
        read_ct(tmp_path / "a.nii", modality="CT")


def test_error_without_pydicom_states_the_extra(tmp_path, monkeypatch):
    write_series(tmp_path / "s", CT.array)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"ctvlm\[dicom\]"):
        read_ct(tmp_path / "s")
