"""The same numbers however a case comes in, and each where it belongs."""

from __future__ import annotations

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
    """A phantom as files: the CT, its map, and a folder with a mask per region."""
    folder = tmp_path_factory.mktemp("case")
    drawn = PhantomCT(num_cases=2, split="apis", shape=(20, 72, 72), num_workers=0, cache=False).results(0)
    ct = CTVolume(drawn["volume"], drawn["affine"])
    write_nifti(ct, folder / "ct.nii.gz")
    write_nifti(ct.with_array(drawn["region_map"]), folder / "map.nii.gz")
    (folder / "masks").mkdir()
    names = PhantomCT(num_cases=1, num_workers=0, cache=False).scheme.names
    for number in np.unique(drawn["region_map"][drawn["region_map"] > 0]):
        mask = (drawn["region_map"] == number).astype(np.uint8)
        write_nifti(ct.with_array(mask), folder / "masks" / f"{names[number - 1]}.nii.gz")
    return folder, ct, ct.with_array(drawn["region_map"])


def same(a, b):
    for name in ("volume", "regions", "region_mask", "patches", "patch_mask", "patch_to_region"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-5, msg=name)
    np.testing.assert_allclose(a.affine, b.affine, atol=1e-4)


def test_a_file_gives_what_the_data_set_gives(trained, extractor):
    """With the pipeline of the data set (none), a phantom's arrays give the numbers of the model's own predictions."""
    data = PhantomCT(num_cases=2, shape=(16, 64, 64), split="test", num_workers=0, cache=False)
    drawn = data.results(1)
    as_drawn = FeatureExtractor(extractor.model, pipeline=[])
    ct = CTVolume(drawn["volume"], drawn["affine"])
    found = as_drawn(ct, ct.with_array(drawn["region_map"]), SOURCE)
    sample = extractor.model.test_step(
        pseudo_collate([as_drawn.read(ct, ct.with_array(drawn["region_map"]), SOURCE).packed])
    )[0]
    torch.testing.assert_close(found.volume, sample.pred_volume)
    torch.testing.assert_close(found.regions, sample.pred_regions)
    assert torch.equal(found.region_mask, sample.pred_region_mask) and found.grid == sample.pred_grid
    assert found.region_names[11] == "liver"


@pytest.mark.parametrize("way", ["file and folder of masks", "arrays", "file and array", "array and file", "manifest"])
def test_every_way_in_gives_the_same(extractor, case, way):
    folder, ct, region_map = case
    expected = extractor(folder / "ct.nii.gz", folder / "map.nii.gz", SOURCE)
    volume = ct if way in ("arrays", "array and file") else folder / "ct.nii.gz"
    mask = {
        "file and folder of masks": folder / "masks",
        "arrays": region_map,
        "file and array": region_map,
        "array and file": folder / "map.nii.gz",
        "manifest": dict(path=str(folder / "map.nii.gz"), source=SOURCE),
    }[way]
    same(extractor(volume, mask, SOURCE), expected)


def test_a_mask_changes_its_own_case_only(extractor, case):
    """Cases with and without a mask in one batch are what they are alone, and the mask adds regions."""
    folder, ct, _ = case
    half = crop(ct, (slice(0, 12), slice(None), slice(None)))
    bare, masked = extractor(half), extractor(folder / "ct.nii.gz", folder / "map.nii.gz", SOURCE)
    together = list(extractor.extract([half, folder / "ct.nii.gz"], [None, folder / "map.nii.gz"], SOURCE))
    same(together[0], bare)
    same(together[1], masked)
    assert masked.region_mask.sum() > 10 and not bare.region_mask.any()
    # What the blocks do not learn from the mask stays: which patches take part, and where they lie.
    without = extractor(folder / "ct.nii.gz")
    assert torch.equal(without.patch_mask, masked.patch_mask)
    np.testing.assert_array_equal(without.affine, masked.affine)


def test_batches_change_nothing_and_split_where_shapes_differ(extractor, case):
    folder, ct, _ = case
    free = FeatureExtractor(extractor.model, pipeline=[dict(type="ResampleCT", shape=(16, 64, 64))])
    volumes = [ct, crop(ct, (slice(0, 12), slice(None), slice(None))), ct]
    for one, found in zip(volumes, free.extract(volumes, batch_size=2), strict=True):
        same(found, free(one))
    # At its own size, no case has another's shape.
    native = FeatureExtractor(extractor.model, pipeline=[])
    sizes = [crop(ct, tuple(slice(0, n) for n in shape)) for shape in ((20, 64, 64), (20, 64, 64), (16, 48, 64))]
    assert [features.grid for features in native.extract(sizes)] == [(5, 4, 4), (5, 4, 4), (4, 3, 4)]


def test_patches_know_where_they_lie(extractor, case):
    """Positions, affine and the encoder's own geometry agree; the patches cover the body."""
    _, ct, region_map = case
    found = FeatureExtractor(extractor.model, pipeline=[dict(type="ResampleCT", shape=(16, 64, 64))])(
        ct, region_map, SOURCE
    )
    assert found.positions.shape == (len(found.patches), 3)
    np.testing.assert_allclose(found.positions[0], found.affine[:3, 3])
    liver = found.positions[found.patch_to_region[:, 12] > 0.5].mean(axis=0)
    voxels = np.argwhere(region_map.array == 12)[:, ::-1] @ ct.affine[:3, :3].T + ct.affine[:3, 3]
    assert np.abs(liver - voxels.mean(axis=0)).max() < np.linalg.norm(found.affine[:3, :3], axis=0).max()


def test_texts(extractor, case):
    features = extractor(case[1])
    texts = ["The liver is normal.", "Large left pleural effusion.", "The liver is normal."]
    found = extractor.similarity(features, texts)
    torch.testing.assert_close(extractor.embed_texts(texts).norm(dim=1), torch.ones(3))
    assert (
        found.volume.shape == (3,)
        and found.regions.shape == (3, 20)
        and found.patches.shape == (3, len(features.patches))
    )
    torch.testing.assert_close(found.attention.sum(dim=1), torch.ones(3))
    assert not found.attention[:, ~features.patch_mask].any()
    torch.testing.assert_close(found.attention[0], found.attention[2])
    assert (found.volume.abs() <= 1 + 1e-6).all()


def test_real_files_of_two_types_give_one_feature(extractor, shared_data):
    pytest.importorskip("SimpleITK", reason="MetaImage needs SimpleITK: pip install 'ctvlm[test]'")
    folder = shared_data / "ct" / "elastix_lung"
    same(extractor(folder / "3DCT_lung.mha"), extractor(folder / "ct.nii.gz"))


def test_what_cannot_be_read_rightly_is_refused(extractor, case, trained, tmp_path):
    folder, ct, _ = case
    with pytest.raises(ValueError, match="mask_source, one of thorax_abdomen_20, totalsegmentator"):
        extractor(folder / "ct.nii.gz", folder / "map.nii.gz")
    with pytest.raises(FileNotFoundError, match="none.nii.gz"):
        extractor(tmp_path / "none.nii.gz")
    with pytest.raises(ValueError, match="holds 0 image files"):
        extractor(folder / "ct.nii.gz", tmp_path)
    with pytest.raises(ValueError, match="give the volume as a file"):
        extractor(ct, folder / "masks")
    with pytest.raises(ValueError, match="init_model"):
        FeatureExtractor(torch.nn.Linear(1, 1))
    cfg = load_config(trained[0])
    cfg.test_dataloader.dataset.pipeline = [dict(type="LoadStore", window=(16, 64, 64)), dict(type="PackCTInputs")]
    with pytest.raises(ConfigError, match="reads a store"):
        FeatureExtractor(init_model(cfg))


def test_a_manifest_config_brings_its_own_resampling(trained, case):
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
    told = extractor.read.read_case(
        dict(case_id="a", patient_id="a", volume=str(case[0] / "ct.nii.gz"), region_map=None), with_text=True
    )
    assert told.packed["data_samples"].steps
