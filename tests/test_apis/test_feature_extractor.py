"""Features are equal for all kinds of inputs, and have the right positions."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from ctvlm.apis import FeatureExtractor, init_model
from ctvlm.engine import ConfigError, load_config
from ctvlm.phantom import PhantomCT
from ctvlm.volume import CTVolume, crop, write_nifti

SOURCE = "thorax_abdomen_20"


@pytest.fixture(scope="module")
def extractor(trained):
    return FeatureExtractor(trained[0], trained[1], "cpu")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A phantom as files: the CT, its label map, and a folder with one mask per region."""
    folder = tmp_path_factory.mktemp("case")
    phantom = PhantomCT(num_cases=2, split="apis", shape=(20, 72, 72), num_workers=0, cache=False).results(0)
    ct = CTVolume(phantom["volume"], phantom["affine"])
    write_nifti(ct, folder / "ct.nii.gz")
    write_nifti(ct.with_array(phantom["region_map"]), folder / "map.nii.gz")
    (folder / "masks").mkdir()
    names = PhantomCT(num_cases=1, num_workers=0, cache=False).scheme.names
    for number in np.unique(phantom["region_map"][phantom["region_map"] > 0]):
        mask = (phantom["region_map"] == number).astype(np.uint8)
        write_nifti(ct.with_array(mask), folder / "masks" / f"{names[number - 1]}.nii.gz")
    return folder, ct, ct.with_array(phantom["region_map"])


def same(a, b):
    for name in ("volume", "regions", "region_mask", "patches", "patch_mask", "patch_to_region"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-5, msg=name)
    np.testing.assert_allclose(a.affine, b.affine, atol=1e-4)


def test_features_equal_predictions(trained, extractor):
    """Without a pipeline, as in the data set, features of a phantom equal the predictions of the model."""
    data = PhantomCT(num_cases=2, shape=(16, 64, 64), split="test", num_workers=0, cache=False)
    phantom = data.results(1)
    raw_extractor = FeatureExtractor(extractor.model, pipeline=[])
    ct = CTVolume(phantom["volume"], phantom["affine"])
    features = raw_extractor(ct, ct.with_array(phantom["region_map"]), SOURCE)
    sample = extractor.model.test_step(
        pseudo_collate([raw_extractor.read(ct, ct.with_array(phantom["region_map"]), SOURCE).packed])
    )[0]
    torch.testing.assert_close(features.volume, sample.pred_volume)
    torch.testing.assert_close(features.regions, sample.pred_regions)
    assert torch.equal(features.region_mask, sample.pred_region_mask) and features.grid == sample.pred_grid
    assert features.region_names[11] == "liver"


@pytest.mark.parametrize("form", ["file and folder of masks", "arrays", "file and array", "array and file", "manifest"])
def test_all_forms_of_input_give_equal_features(extractor, case, form):
    folder, ct, region_map = case
    expected = extractor(folder / "ct.nii.gz", folder / "map.nii.gz", SOURCE)
    volume = ct if form in ("arrays", "array and file") else folder / "ct.nii.gz"
    mask = {
        "file and folder of masks": folder / "masks",
        "arrays": region_map,
        "file and array": region_map,
        "array and file": folder / "map.nii.gz",
        "manifest": dict(path=str(folder / "map.nii.gz"), source=SOURCE),
    }[form]
    same(extractor(volume, mask, SOURCE), expected)


def test_mask_affects_its_own_case_only(extractor, case):
    """Features do not depend on whether other cases of the batch have a mask."""
    folder, ct, _ = case
    half = crop(ct, (slice(0, 12), slice(None), slice(None)))
    unmasked, masked = extractor(half), extractor(folder / "ct.nii.gz", folder / "map.nii.gz", SOURCE)
    together = list(extractor.extract([half, folder / "ct.nii.gz"], [None, folder / "map.nii.gz"], SOURCE))
    same(together[0], unmasked)
    same(together[1], masked)
    assert masked.region_mask.sum() > 10 and not unmasked.region_mask.any()
    # The selected patches and their positions do not depend on the mask.
    without = extractor(folder / "ct.nii.gz")
    assert torch.equal(without.patch_mask, masked.patch_mask)
    np.testing.assert_array_equal(without.affine, masked.affine)


def test_batches_are_split_by_shape(extractor, case):
    folder, ct, _ = case
    resampling = FeatureExtractor(extractor.model, pipeline=[dict(type="ResampleCT", shape=(16, 64, 64))])
    volumes = [ct, crop(ct, (slice(0, 12), slice(None), slice(None))), ct]
    for volume, features in zip(volumes, resampling.extract(volumes, batch_size=2), strict=True):
        same(features, resampling(volume))
    native = FeatureExtractor(extractor.model, pipeline=[])
    sizes = [crop(ct, tuple(slice(0, n) for n in shape)) for shape in ((20, 64, 64), (20, 64, 64), (16, 48, 64))]
    assert [features.grid for features in native.extract(sizes)] == [(5, 4, 4), (5, 4, 4), (4, 3, 4)]


def test_patch_positions(extractor, case):
    """Positions agree with the affine, and liver patches are at the position of the liver."""
    _, ct, region_map = case
    features = FeatureExtractor(extractor.model, pipeline=[dict(type="ResampleCT", shape=(16, 64, 64))])(
        ct, region_map, SOURCE
    )
    assert features.positions.shape == (len(features.patches), 3)
    np.testing.assert_allclose(features.positions[0], features.affine[:3, 3])
    liver = features.positions[features.patch_to_region[:, 12] > 0.5].mean(axis=0)
    voxels = np.argwhere(region_map.array == 12)[:, ::-1] @ ct.affine[:3, :3].T + ct.affine[:3, 3]
    assert np.abs(liver - voxels.mean(axis=0)).max() < np.linalg.norm(features.affine[:3, :3], axis=0).max()


def test_text_similarity(extractor, case):
    features = extractor(case[1])
    texts = ["The liver is normal.", "Large left pleural effusion.", "The liver is normal."]
    similarity = extractor.similarity(features, texts)
    torch.testing.assert_close(extractor.embed_texts(texts).norm(dim=1), torch.ones(3))
    assert (
        similarity.volume.shape == (3,)
        and similarity.regions.shape == (3, 20)
        and similarity.patches.shape == (3, len(features.patches))
    )
    torch.testing.assert_close(similarity.attention.sum(dim=1), torch.ones(3))
    assert not similarity.attention[:, ~features.patch_mask].any()
    torch.testing.assert_close(similarity.attention[0], similarity.attention[2])
    assert (similarity.volume.abs() <= 1 + 1e-6).all()


def test_two_file_types_of_a_real_ct_give_equal_features(extractor, shared_data):
    pytest.importorskip("SimpleITK", reason="MetaImage needs SimpleITK: pip install 'ctvlm[test]'")
    folder = shared_data / "ct" / "elastix_lung"
    same(extractor(folder / "3DCT_lung.mha"), extractor(folder / "ct.nii.gz"))


def test_errors(extractor, case, trained, tmp_path):
    folder, ct, _ = case
    with pytest.raises(ValueError, match="mask_source.*thorax_abdomen_20, totalsegmentator"):
        extractor(folder / "ct.nii.gz", folder / "map.nii.gz")
    with pytest.raises(FileNotFoundError, match="none.nii.gz"):
        extractor(tmp_path / "none.nii.gz")
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path))}.* 0 "):
        extractor(folder / "ct.nii.gz", tmp_path)
    with pytest.raises(ValueError, match="init_model"):
        FeatureExtractor(torch.nn.Linear(1, 1))
    cfg = load_config(trained[0])
    cfg.test_dataloader.dataset.pipeline = [dict(type="LoadStore", window=(16, 64, 64)), dict(type="PackCTInputs")]
    with pytest.raises(ConfigError, match="ResampleCT"):
        FeatureExtractor(init_model(cfg))


def test_config_with_its_own_resampling(trained, case):
    cfg = load_config(trained[0])
    cfg.test_dataloader.dataset = dict(
        type="ManifestCT",
        ann_file="nowhere.jsonl",
        pipeline=[
            dict(type="LoadCT"),
            dict(type="MeasuredReasoning"),
            dict(type="ResampleCT", shape=(8, 32, 48)),
            dict(type="PackCTInputs"),
        ],
    )
    extractor = FeatureExtractor(init_model(cfg, trained[1], "cpu"))
    read = extractor.read(case[0] / "ct.nii.gz", case[0] / "map.nii.gz", SOURCE)
    assert read.shape == (8, 32, 48) and read.packed["data_samples"].steps == []
    with_text = extractor.read.read_case(
        dict(case_id="a", patient_id="a", volume=str(case[0] / "ct.nii.gz"), region_map=None), with_text=True
    )
    assert with_text.packed["data_samples"].steps
