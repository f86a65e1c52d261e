"""Inputs become cases; wrong inputs are one clear error."""

from __future__ import annotations

import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest

from ctvlm.apis import CaseInputError, FeatureExtractor, array_volume, find_cases
from ctvlm.datasets.manifest import ManifestError, write_manifest
from ctvlm.datasets.transforms.load_ct import RegionWarning
from ctvlm.volume import CTReadError, CTVolume, MaskMismatchError, read_ct, read_label_map, write_nifti

SOURCE = "thorax_abdomen_20"
OTHER = "totalsegmentator_v2"


@pytest.fixture(scope="module")
def extract(model):
    return FeatureExtractor(model)


def ids(*args, **kwargs) -> list[str]:
    return [case.case_id for case in find_cases(*args, **kwargs).cases]


def test_folder_is_searched_for_all_file_types(phantom_files, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    source = phantom_files / "p0" / "ct.nii.gz"
    image = sitk.ReadImage(str(source))
    for name in ("a/x.NRRD", "b/deep/y.mha", "c.nii", "D.NII.GZ"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # SimpleITK writes lower-case suffixes only.
        sitk.WriteImage(image, str(tmp_path / f"part{name[name.index('.') :].lower()}"))
        shutil.move(tmp_path / f"part{name[name.index('.') :].lower()}", path)
    (tmp_path / "notes.txt").write_text("not an image")
    assert sorted(ids(tmp_path)) == ["D", "a", "b/deep", "c"]


def test_dicom_folder_is_one_case(extract, phantom_files, tmp_path):
    pytest.importorskip("pydicom", reason="DICOM needs pydicom: pip install 'ctvlm[dicom]'")
    from tests.test_volume.dicom_files import write_series

    write_series(tmp_path / "series", read_ct(phantom_files / "p0" / "ct.nii.gz").array)
    assert ids(tmp_path / "series") == ["series"]
    assert ids(tmp_path) == ["series"]


def test_masks_of_a_folder_need_a_source(phantom_files):
    assert all(case.entry["region_map"] is None for case in find_cases(phantom_files).cases)
    with_masks = find_cases(phantom_files, mask_source=SOURCE).cases
    assert [case.entry["region_map"]["path"] for case in with_masks] == [
        str(phantom_files / name / "seg.nii.gz") for name in ("p0", "p1")
    ]


def test_manifest_with_split(phantom_files, tmp_path):
    lines = [
        dict(case_id=name, patient_id=name, split=split, volume=str(phantom_files / name / "ct.nii.gz"))
        for name, split in (("p0", "train"), ("p1", "val"))
    ]
    write_manifest(lines, tmp_path / "cases.jsonl")
    assert ids(tmp_path / "cases.jsonl") == ["p0", "p1"] and ids(tmp_path / "cases.jsonl", split="val") == ["p1"]
    with pytest.raises(ManifestError, match="no case in split 'tset'"):
        find_cases(tmp_path / "cases.jsonl", split="tset")
    with pytest.raises(CaseInputError, match="have their own masks"):
        find_cases(tmp_path / "cases.jsonl", "mask.nii.gz", SOURCE)
    with pytest.raises(CaseInputError, match="expected a manifest"):
        find_cases(phantom_files, split="val")


def test_equal_names_get_unique_ids(phantom_files):
    files = [phantom_files / name / "ct.nii.gz" for name in ("p0", "p1")]
    assert ids(files) == ["p0/ct", "p1/ct"]
    assert ids([phantom_files, files[0]]) == ["p0", "p1", "ct"]
    volume = CTVolume(np.zeros((4, 4, 4), np.int16), np.eye(4))
    assert ids([volume, volume]) == ["volume_1", "volume_2"]
    assert len(set(ids([files[0], files[0], files[0]]))) == 3


def test_array_needs_a_geometry():
    array = np.zeros((4, 6, 8), np.int16)
    np.testing.assert_array_equal(array_volume(array, (3, 2, 1)).affine, np.diag([1, 2, 3, 1]))
    for arguments in ({}, dict(spacing=(1, 1, 1), affine=np.eye(4)), dict(spacing=(1, 1)), dict(spacing=(0, 1, 1))):
        with pytest.raises(CaseInputError, match="expected"):
            find_cases(array, **arguments)
    with pytest.raises(CaseInputError, match=r"shape \(4, 6\)"):
        array_volume(array[:, :, 0], (1, 1, 1))


def test_wrong_inputs_are_one_error(extract, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.nii.gz"):
        extract.run(tmp_path / "nowhere.nii.gz")
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl"):
        extract.run(tmp_path / "nowhere.jsonl")
    with pytest.raises(CaseInputError, match=f"{tmp_path.name}: found no CT"):
        extract.run(tmp_path)
    with pytest.raises(CaseInputError, match="empty list"):
        extract.run([])
    with pytest.raises(CaseInputError, match="found int"):
        extract.run(3)
    with pytest.raises(CaseInputError, match="one mask per CT"):
        extract.run(["a.nii.gz", "b.nii.gz"], "mask.nii.gz", SOURCE)
    with pytest.raises(ValueError, match="totalsegmentator_v9.*expected one of"):
        extract.run("a.nii.gz", "mask.nii.gz", "totalsegmentator_v9")
    noise = np.random.default_rng(0).integers(0, 900, (20, 64, 64)).astype(np.int16)
    with pytest.raises(CTReadError, match="volume: found values.*expected Hounsfield units"):
        extract.run(noise, spacing=(2, 2, 2))


def test_mr_file_is_an_error(extract, shared_data):
    with pytest.raises(CTReadError, match="example_mr_sm.nii.gz.*MR"):
        extract.run(shared_data / "ct" / "not_hu" / "example_mr_sm.nii.gz")


def test_mask_of_another_place_is_refused(extract, phantom_files, tmp_path):
    ct, mask = phantom_files / "p0" / "ct.nii.gz", read_label_map(phantom_files / "p0" / "seg.nii.gz")
    far = mask.affine.copy()
    far[2, 3] += 5000
    write_nifti(CTVolume(mask.array, far), tmp_path / "far.nii.gz")
    for moved in (tmp_path / "far.nii.gz", CTVolume(mask.array, far)):
        with pytest.raises(MaskMismatchError, match="another scan"):
            extract(ct, moved, SOURCE)
    # The bounding box of the labels covers the CT, but no label is inside.
    ct_volume = read_ct(ct)
    wide = np.zeros(np.array(ct_volume.shape) + 4, np.uint8)
    wide[0, 0, 0] = wide[-1, -1, -1] = 12
    affine = ct_volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [2, 2, 2]
    write_nifti(CTVolume(wide, affine), tmp_path / "around.nii.gz")
    for around in (tmp_path / "around.nii.gz", CTVolume(wide, affine)):
        with pytest.raises(MaskMismatchError, match="another scan"):
            extract(ct, around, SOURCE)


@pytest.mark.parametrize("in_memory", [False, True])
def test_implausible_mask_is_refused(extract, phantom_files, tmp_path, in_memory):
    ct, mask = phantom_files / "p0" / "ct.nii.gz", read_label_map(phantom_files / "p0" / "seg.nii.gz")
    flipped = mask.with_array(np.ascontiguousarray(mask.array[::-1, ::-1]))
    write_nifti(flipped, tmp_path / "flipped.nii.gz")
    with pytest.raises(CaseInputError, match="regions are implausible.*another scan"):
        extract(ct, flipped if in_memory else tmp_path / "flipped.nii.gz", SOURCE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RegionWarning)
        extract(ct, mask if in_memory else phantom_files / "p0" / "seg.nii.gz", SOURCE)


def test_empty_mask_is_treated_as_missing(extract, phantom_files):
    ct = read_ct(phantom_files / "p0" / "ct.nii.gz")
    with pytest.warns(UserWarning, match="treated as missing"):
        features = extract(ct, ct.with_array(np.zeros(ct.shape, np.uint8)), SOURCE)
    np.testing.assert_allclose(features.volume, extract(ct).volume, atol=1e-5)


def test_real_mask_of_another_patient_is_refused(extract, shared_data):
    ct, mask = shared_data / "ct" / "ts_thorax_abdomen_spine" / "example_ct.nii.gz", shared_data / "ct" / "ts_small_117"
    with pytest.raises(CaseInputError, match="6 of 13 regions are implausible"):
        extract(ct, mask / "example_seg.nii.gz", OTHER)
    assert extract(mask / "example_ct_sm.nii.gz", mask / "example_seg.nii.gz", OTHER).region_mask.sum() > 10


def test_folder_without_a_clear_ct_is_reported(extract, phantom_files, tmp_path):
    shutil.copytree(phantom_files, tmp_path / "cases")
    doubtful = tmp_path / "cases" / "p2"
    doubtful.mkdir()
    for name in ("one", "two", "seg"):
        shutil.copy(phantom_files / "p0" / "ct.nii.gz", doubtful / f"{name}.nii.gz")
    run = extract.run(tmp_path / "cases")
    assert [result.case_id for result in run.results] == ["p0", "p1"]
    assert run.exit_code == 1 and "found 2 CTs (one.nii.gz, two.nii.gz)" in run.failures[0].reason


def test_nibabel_and_reader_agree_on_the_grid_of_the_input(extract, phantom_files):
    read = extract.read(phantom_files / "p0" / "ct.nii.gz")
    image = nib.load(phantom_files / "p0" / "ct.nii.gz")
    assert read.ct.header.shape == image.shape and read.path == str(phantom_files / "p0" / "ct.nii.gz")
    np.testing.assert_allclose(read.ct.header.affine, image.affine, atol=1e-4)
