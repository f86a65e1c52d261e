"""Inputs become cases; wrong inputs are one clear error."""

from __future__ import annotations

import shutil
import warnings
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from ctvlm.anatomy.plausibility import MIN_VOXELS
from ctvlm.apis import CaseInputError, FeatureExtractor, array_volume, find_cases
from ctvlm.apis.case_input import InputCase
from ctvlm.apis.inferencer import Inferencer
from ctvlm.datasets.manifest import ManifestError, write_manifest
from ctvlm.datasets.transforms import load_ct
from ctvlm.volume import CTReadError, CTVolume, MaskMismatchError, read_ct, read_label_map, sample_mask, write_nifti

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
    trusted = dict(allow_outside=True)
    assert ids(tmp_path / "cases.jsonl", **trusted) == ["p0", "p1"]
    assert ids(tmp_path / "cases.jsonl", split="val", **trusted) == ["p1"]
    with pytest.raises(ManifestError, match="no case in split 'tset'"):
        find_cases(tmp_path / "cases.jsonl", split="tset", **trusted)
    with pytest.raises(ManifestError, match="allow_outside"):
        find_cases(tmp_path / "cases.jsonl")
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
    for mask in (None, "mask.nii.gz", [], ["mask.nii.gz"]):
        with pytest.raises(CaseInputError, match="input: found an empty list; expected at least one CT"):
            extract.run([], mask, SOURCE)
    with pytest.raises(CaseInputError, match="found int"):
        extract.run(3)
    with pytest.raises(CaseInputError, match="mask: found mask.nii.gz for 2 inputs; expected a list with one mask"):
        extract.run(["a.nii.gz", "b.nii.gz"], "mask.nii.gz", SOURCE)
    with pytest.raises(CaseInputError, match="mask: found 1 masks for 2 inputs; expected one mask or None per CT"):
        extract.run(["a.nii.gz", "b.nii.gz"], ["mask.nii.gz"], SOURCE)
    with pytest.raises(CaseInputError, match="mask: found a list of 1 masks for one input; expected one mask"):
        extract.run("a.nii.gz", ["mask.nii.gz"], SOURCE)
    with pytest.raises(ValueError, match="totalsegmentator_v9.*expected one of"):
        extract.run("a.nii.gz", "mask.nii.gz", "totalsegmentator_v9")
    noise = np.random.default_rng(0).integers(0, 900, (20, 64, 64)).astype(np.int16)
    with pytest.raises(CTReadError, match="volume: found values.*expected Hounsfield units"):
        extract.run(noise, spacing=(2, 2, 2))


def test_wrong_masks_are_one_error(extract, phantom_files):
    ct = phantom_files / "p0" / "ct.nii.gz"
    volume = read_ct(ct)
    for mask in (volume.array, [volume.array]):
        inputs = [ct] if isinstance(mask, list) else ct
        with pytest.raises(CaseInputError, match=r"mask: found ndarray; expected a path, CTVolume\(array, affine\)"):
            extract.run(inputs, mask, SOURCE)
    with pytest.raises(CaseInputError, match=r"keys \['source'\]; expected one of path, files and volume"):
        extract(ct, {"source": SOURCE})
    with pytest.raises(CaseInputError, match=r"volume: found ndarray; expected a path or CTVolume\(array, affine\)"):
        extract(volume.array)
    with pytest.raises(CTReadError, match="mask: found ids from -"):
        extract(ct, volume, SOURCE)
    with pytest.raises(CTReadError, match="volume: found voxel sizes"):
        extract(CTVolume(volume.array, np.diag([0.001, 1, 1, 1])))


def test_file_urls_are_paths(extract, phantom_files):
    url = f"file://{phantom_files}"
    assert ids(url) == ["p0", "p1"] and ids(f"{url}/p0/ct.nii.gz") == ["ct"]
    result = extract(f"{url}/p0/ct.nii.gz", f"{url}/p0/seg.nii.gz", SOURCE)
    assert result.case_id == "ct"
    np.testing.assert_array_equal(result.region_mask, extract(*files_of(phantom_files), SOURCE).region_mask)
    with pytest.raises(FileNotFoundError, match=f"{phantom_files}/nowhere.nii.gz: no such file"):
        extract.run(f"{url}/nowhere.nii.gz")
    with pytest.raises(FileNotFoundError, match="memory://nowhere.nii.gz: no such file"):
        extract.run("memory://nowhere.nii.gz")


def test_one_ct_has_the_same_id_everywhere(extract, phantom_files):
    ct = phantom_files / "p0" / "ct.nii.gz"
    assert extract(ct).case_id == extract.run(ct).results[0].case_id == ids(str(ct))[0] == "ct"


def files_of(phantom_files):
    return phantom_files / "p0" / "ct.nii.gz", phantom_files / "p0" / "seg.nii.gz"


@pytest.mark.parametrize("mask", ["file", "memory", "no source", "classes", "none"])
def test_volumes_in_memory_are_read_like_files(extract, phantom_files, tmp_path, mask):
    file, labels_file = files_of(phantom_files)
    ct, labels = read_ct(file), read_label_map(labels_file)
    if mask == "classes":
        for name, label in (("liver", 12), ("lung", 4)):
            write_nifti(labels.with_array((labels.array == label).astype(np.uint8)), tmp_path / f"{name}.nii.gz")
    of_file, in_memory = {
        "file": [(labels_file, SOURCE)] * 2,
        "memory": [(labels_file, SOURCE), (labels, SOURCE)],
        "no source": [({"path": str(labels_file)}, None), ({"volume": labels}, None)],
        "classes": [(tmp_path, None)] * 2,
        "none": [(None, None)] * 2,
    }[mask]
    # In another orientation, as arrays of other libraries are.
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    flip[1:3, 3] = np.array(ct.shape[1::-1]) - 1
    turned = CTVolume(np.ascontiguousarray(ct.array[::-1, ::-1]), ct.affine @ flip)
    one, other = extract.read(file, *of_file), extract.read(turned, *in_memory)
    np.testing.assert_array_equal(other.ct.array, one.ct.array)
    np.testing.assert_allclose(other.ct.affine, one.ct.affine, atol=1e-4)
    np.testing.assert_array_equal(other.packed["inputs"]["volume"], one.packed["inputs"]["volume"])
    if mask == "none":
        assert one.region_map is None and other.region_map is None
    else:
        assert np.unique(one.region_map).size > 1
        np.testing.assert_array_equal(other.region_map, one.region_map)


def test_regions_are_checked_once(extract, phantom_files, monkeypatch):
    calls = []
    original = load_ct.check_regions
    monkeypatch.setattr(load_ct, "check_regions", lambda *args: calls.append(1) or original(*args))
    extract(*files_of(phantom_files), SOURCE)
    assert len(calls) == 1


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
        warnings.simplefilter("error", load_ct.RegionWarning)
        extract(ct, mask if in_memory else phantom_files / "p0" / "seg.nii.gz", SOURCE)


def test_empty_mask_is_treated_as_missing(extract, phantom_files):
    ct = read_ct(phantom_files / "p0" / "ct.nii.gz")
    with pytest.warns(load_ct.MaskWarning, match="empty on the CT grid and ignored: mask"):
        features = extract(ct, ct.with_array(np.zeros(ct.shape, np.uint8)), SOURCE)
    np.testing.assert_allclose(features.volume, extract(ct).volume, atol=1e-5)


def test_real_mask_of_another_patient_is_refused(extract, shared_data):
    folder, scheme = shared_data / "ct" / "ts_small_117", extract.read.scheme
    file, mask = shared_data / "ct" / "ts_thorax_abdomen_spine" / "example_ct.nii.gz", folder / "example_seg.nii.gz"
    with pytest.raises(CaseInputError) as error:
        extract(file, mask, OTHER)
    ct = read_ct(file)
    regions = scheme.fold(sample_mask(read_label_map(mask), ct)[0].array, OTHER)
    step = 2 if regions.size > 4_000_000 else 1
    regions, hu = regions[::step, ::step, ::step], ct.array[::step, ::step, ::step]
    large = [region for region in scheme.regions if (regions == region.id).sum() >= MIN_VOXELS]
    wrong = [region for region in large if not region.hu[0] <= hu[regions == region.id].mean() <= region.hu[1]]
    assert 3 * len(wrong) >= len(large) > 5
    assert f"{mask}: {len(wrong)} of {len(large)} regions are implausible" in str(error.value)
    assert extract(folder / "example_ct_sm.nii.gz", mask, OTHER).region_mask.sum() > 10


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


def test_fault_of_the_code_names_the_case():
    class Task(Inferencer):
        def predict(self, cases, context=None):
            return list(cases)

    def read_case(entry):
        return len(3)

    task = Task.__new__(Task)
    task.read = SimpleNamespace(read_case=read_case)
    case = InputCase(dict(case_id="c7", volume=dict(path="/data/c7.nii.gz")))
    with pytest.raises(RuntimeError, match=r"^case c7 \(/data/c7.nii.gz\): TypeError: ") as info:
        list(task.stream([case]))
    assert type(info.value.__cause__) is TypeError
