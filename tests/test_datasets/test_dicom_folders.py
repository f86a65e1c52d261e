"""folder_to_manifest.py with DICOM folders, with and without masks."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets import ManifestCT, read_manifest
from ctvlm.datasets.conversion import FolderRules, folder_cases
from ctvlm.datasets.transforms import LoadCT
from ctvlm.volume import read_ct, read_label_map, write_nifti
from tests.test_datasets.test_folder_to_manifest import convert  # noqa: F401  (a fixture)

pytest.importorskip("pydicom", reason="DICOM needs pydicom: pip install 'ctvlm[dicom]'")
pytest.importorskip("SimpleITK", reason="DICOM needs SimpleITK: pip install 'ctvlm[dicom]'")

from tests.test_volume.dicom_files import SPACING, data_set, write_enhanced, write_series, write_slice

SCHEME = RegionScheme.load("thorax_abdomen_20")


@pytest.fixture
def case(case_folder):
    """HU array in the file order of ``write_series`` (rows to L and P), organ labels and a liver mask."""
    ct, labels = read_ct(case_folder / "p0" / "ct.nii.gz"), read_label_map(case_folder / "p0" / "seg.nii.gz")
    d, h, w = ct.shape
    affine = np.diag([SPACING[1], SPACING[0], 3.0, 1.0])
    affine[:3, 3] = (5 - SPACING[1] * (w - 1), -7 - SPACING[0] * (h - 1), 0)
    placed = type(labels)(labels.array, affine)
    liver = placed.with_array((labels.array == 5).astype(np.uint8))
    return ct.array[:, ::-1, ::-1], placed, liver


def volumes(root, **rules) -> dict:
    listed = folder_cases(root, SCHEME, FolderRules(**rules))
    return (
        {c["case_id"]: c["volume"] for c in listed.cases},
        dict(listed.dropped),
        {c["patient_id"] for c in listed.cases},
    )


LAYOUTS = {
    "masks in the DICOM folder": ("p1", "p1/liver.nii.gz"),
    "an unknown name beside": ("p1", "p1/SEG.NII.GZ"),
    "segmentations in the DICOM folder": ("p1", "p1/segmentations/liver.nii.gz"),
    "segmentations beside the DICOM folder": ("p1/dicom", "p1/segmentations/liver.nii.gz"),
    "masks above a study and a series": ("p1/1.2.840/1.2.840.7", "p1/seg.nii.gz"),
    "named after the DICOM folder": ("p1", "p1_seg.nii.gz"),
}


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dicom_folder_with_masks_is_a_case(layout, enhanced, case, convert, tmp_path):  # noqa: F811
    hu, labels, liver = case
    folder, mask = LAYOUTS[layout]
    root = tmp_path / "data"
    if enhanced:
        write_enhanced(root / folder / "IM1", hu)
    else:
        write_series(root / folder, hu, suffix=".DCM")
    write_nifti(liver if "liver" in mask else labels, root / mask)
    out = tmp_path / "m.jsonl"
    assert convert(root, out, "--val-fraction", "0") == 0
    loaded = ManifestCT(str(out), split="train", pipeline=[LoadCT()])[0]
    np.testing.assert_array_equal(loaded["volume"], hu[:, ::-1, ::-1])
    assert [c["case_id"] for c in read_manifest(out)] == ["p1"]
    liver_id = SCHEME.fold(np.full((1, 1, 1), 5, np.uint8), "totalsegmentator_v2").item()
    np.testing.assert_array_equal(loaded["region_map"] == liver_id, liver.array == 1)


def test_each_ct_series_is_a_case(case, tmp_path):
    root, hu = tmp_path / "data", case[0][:4]
    write_series(root / "a", hu)
    write_series(root / "b" / "study", hu, uid="1.5")
    write_series(root / "b" / "study", hu, uid="1.6")
    write_slice(root / "a" / "scout", hu[0], 0, uid="1.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    kept, dropped, patients = volumes(root, allow_no_mask=True)
    both = str(root / "b" / "study")
    assert kept == {
        "a": {"path": str(root / "a"), "key": "1.2.3.4"},
        "b/study/1.5": {"path": both, "key": "1.5"},
        "b/study/1.6": {"path": both, "key": "1.6"},
    }
    assert dropped == {}
    assert patients == {"a", "b/study"}
    kept, dropped, _ = volumes(root)
    assert kept == {} and "--allow-no-mask" in dropped["a"]


def test_folders_without_single_ct_are_dropped_with_reason(case, tmp_path):
    root, (hu, labels, _) = tmp_path / "data", case
    (root / "dose").mkdir(parents=True)
    report = data_set("1.2.840.10008.5.1.4.1.1.88.67", Modality="SR")
    report.save_as(root / "dose" / "a.dcm", enforce_file_format=True)
    write_series(root / "nomod", hu[:3], Modality=None)
    for phase in ("early", "late"):
        write_series(root / "two" / phase, hu[:3])
    write_nifti(labels, root / "two" / "seg.nii.gz")
    kept, dropped, _ = volumes(root, allow_no_mask=True)
    assert kept == {}
    assert "structured report" in dropped["dose"]
    assert "Modality" in dropped["nomod"]
    assert "found 2 " in dropped["two"] and "early, late" in dropped["two"]


def test_flat_files_next_to_dicom_folder_are_cases(case_folder, case, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(2):
        shutil.copy(case_folder / f"p{number}" / "ct.nii.gz", flat / f"S{number}.NII.GZ")
        shutil.copy(case_folder / f"p{number}" / "seg.nii.gz", flat / f"S{number}_SEG.NII.GZ")
    write_series(flat / "p7", case[0][:3])
    kept, dropped, _ = volumes(flat)
    assert set(kept) == {"S0", "S1"} and set(dropped) == {"p7"}
