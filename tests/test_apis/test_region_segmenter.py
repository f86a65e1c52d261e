"""Region maps lie on the voxels of the input, for nibabel and SimpleITK."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from ctvlm.apis import RegionSegmenter, ZeroShotClassifier
from ctvlm.utils import CTVLMError
from ctvlm.volume import CTVolume
from ctvlm.volume.grids import sample_grid
from tests.test_apis.oriented_ct import LIVER, BrightIsLiver, dice


@pytest.fixture
def segmenter(model):
    # Fine enough for the ellipsoid; the random model is not used.
    made = RegionSegmenter(model, pipeline=[dict(type="ResampleCT", shape=(64, 64, 64), crop_to_body=True)])
    made._objectives = [BrightIsLiver()]
    return made


def test_map_lies_on_the_voxels_of_the_input(segmenter, ct_file, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    path, axes = ct_file
    region_map = segmenter(path)
    sidecar = region_map.save(tmp_path / "map.nii.gz")
    about = json.loads(sidecar.read_text())
    assert about["regions"][str(LIVER)] == "liver" and list(about["volumes_ml"]) == ["liver"]
    assert about["grid"] == ("input, straightened" if axes == "sheared" else "input")
    source, written = nib.load(path), nib.load(tmp_path / "map.nii.gz")
    labels, bright = np.asarray(written.dataobj), np.asarray(source.dataobj) > 170
    assert labels.dtype == np.uint8
    if axes == "sheared":
        assert region_map.straightened
        # In physical space: the map sampled at the voxel centres of the sheared file.
        to_map = np.linalg.inv(written.affine) @ source.affine
        labels = sample_grid(labels, to_map, source.shape, "nearest", fill=0)
    else:
        np.testing.assert_allclose(written.affine, source.affine, atol=1e-3)
        assert labels.shape == source.shape
    assert dice(labels == LIVER, bright) > 0.9
    # SimpleITK places the voxels of both files identically.
    read = sitk.ReadImage(str(tmp_path / "map.nii.gz"))
    centre = np.argwhere(np.asarray(written.dataobj) == LIVER).mean(axis=0)
    ras = (written.affine @ [*centre, 1])[:3]
    np.testing.assert_allclose(read.TransformContinuousIndexToPhysicalPoint(centre), ras * [-1, -1, 1], atol=0.01)
    if axes == "sheared":
        with pytest.raises(RuntimeError, match="orthonormal"):
            sitk.ReadImage(str(path))
    else:
        original = sitk.ReadImage(str(path))
        assert read.GetSize() == original.GetSize()
        np.testing.assert_allclose(read.GetOrigin(), original.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(read.GetDirection(), original.GetDirection(), atol=1e-5)
        np.testing.assert_allclose(read.GetSpacing(), original.GetSpacing(), atol=1e-5)
        ours = sitk.GetArrayFromImage(read) == LIVER
        assert dice(ours, sitk.GetArrayFromImage(original) > 170) > 0.9


def test_array_gives_a_map_on_its_own_grid(segmenter, ct_file):
    path, axes = ct_file
    image = nib.load(path)
    volume = CTVolume(np.asarray(image.dataobj).T, image.affine)
    region_map = segmenter(volume)
    if axes != "sheared":
        np.testing.assert_allclose(region_map.labels.affine, image.affine)
        assert dice(region_map.labels.array == LIVER, volume.array > 170) > 0.9
    np.testing.assert_array_equal(region_map.labels.array, segmenter(path).labels.array)


def test_regions_of_a_mask_are_kept(model, phantom_files):
    ct, mask = phantom_files / "p0" / "ct.nii.gz", phantom_files / "p0" / "seg.nii.gz"
    region_map = RegionSegmenter(model)(ct, mask, "thorax_abdomen_20")
    assert region_map.origin == "mask" and RegionSegmenter(model)(ct).origin == "predicted"
    np.testing.assert_array_equal(region_map.labels.array, np.asarray(nib.load(mask).dataobj).T)


def test_maps_of_a_folder_are_saved_and_kept(model, phantom_files, tmp_path):
    segment = RegionSegmenter(model)
    assert segment.save(phantom_files, tmp_path).count("done") == 2
    before = (tmp_path / "p0.nii.gz").stat().st_mtime_ns
    assert segment.save(phantom_files, tmp_path).count("kept") == 2
    (tmp_path / "p1.json").unlink()
    summary = segment.save(phantom_files, tmp_path)
    assert summary.count("done") == 1 and (tmp_path / "p0.nii.gz").stat().st_mtime_ns == before


def test_model_without_region_map_is_an_error(trained):
    classify = ZeroShotClassifier(trained[0], trained[1], "cpu")
    with pytest.raises(CTVLMError, match="SegmentationObjective"):
        RegionSegmenter(classify.model)


def test_suffix_is_checked(model, phantom_files, tmp_path):
    with pytest.raises(ValueError, match=r"expected \.nii"):
        RegionSegmenter(model)(phantom_files / "p0" / "ct.nii.gz").save(tmp_path / "map.mha")
