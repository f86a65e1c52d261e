"""Models on published towers: maps in the space of the input, released folders, and what is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from ctvlm.apis import FeatureExtractor, init_model
from ctvlm.apis.case_predictions import OTHER_TOWER_PHANTOMS, RANDOM_EXCEPT_TOWER, RANDOM_WEIGHTS, weights_remark
from ctvlm.engine import CheckpointError, ConfigError, load_config
from ctvlm.engine.checkpoint.model_card import license_of
from ctvlm.engine.checkpoint.release import write_release
from ctvlm.registry import TOWERS
from ctvlm.utils import MissingPackageError
from ctvlm.utils.pretrained_files import pretrained_sources
from ctvlm.utils.training_data import data_record
from ctvlm.volume import CTVolume
from tests.test_volume.phantoms import save_as

TEXTS = ["Small right pleural effusion.", "The liver is normal."]
# Few blocks and channels; features are 40 to 64 mm apart.
SMALL = {
    "colipri": dict(embed_dims=24, depth=1, num_heads=2, img_size=(16, 16, 16), spacing=(5.0, 5.0, 5.0)),
    "ct_clip": dict(
        embed_dims=16, num_heads=2, head_dims=8, spatial_depth=1, temporal_depth=1, codebook_size=4096,
        img_size=(20, 40, 40), spacing=(4.0, 2.0, 2.0),
    ),
    "ct_fm": dict(init_filters=4, blocks=(1, 1, 1, 1, 1), spacing=(3.0, 3.0, 3.0)),
    "hlip": dict(embed_dims=24, depth=2, num_heads=2, scan_blocks=(1,), img_size=(16, 48, 48), spacing=(6.0, 2.0, 2.0)),
    "merlin": dict(blocks=(1, 1, 1, 1), img_size=(64, 64, 32), spacing=(2.0, 2.0, 4.0)),
    "spectre": dict(embed_dims=48, depth=1, num_heads=2, img_size=(32, 32, 16), spacing=(3.0, 3.0, 6.0)),
}  # fmt: skip
SIDE_MM = np.array([-80.0, 70.0, 60.0])  # left, front, head: where the lesion is, from the centre of the body


def config_of(repo_root, name, **backbone):
    cfg = load_config(repo_root / f"configs/towers/{name}_frozen.py")
    text_encoder = dict(type="CompactTextEncoder", vocab_size=300, embed_dims=16, depth=1, num_heads=2, _delete_=True)
    tower = {f"model.backbone.tower.{key}": value for key, value in SMALL[name].items()}
    cfg.merge_from_dict(
        tower
        | {f"model.backbone.{key}": value for key, value in backbone.items()}
        | {
            "model.backbone.patch_size": (4, 16, 16),
            "model.backbone.embed_dims": 24,
            "model.space.shared_dims": 16,
            "model.text_encoder": text_encoder,
        }
    )
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == "ResampleCT":
            step.shape = (32, 128, 128)
    return cfg


def body(lesion):
    """A cylinder of tissue around one of lung, and its centre in mm; ``lesion``: a block of 60 mm at SIDE_MM."""
    spacing_3, shape = np.array([5.0, 3.0, 3.0]), (52, 110, 100)
    affine = np.diag([*spacing_3[::-1], 1.0])
    affine[:3, 3] = [-120, -150, 700]
    centre_3 = affine[:3, 3] + (np.array(shape[::-1]) - 1) / 2 * spacing_3[::-1]
    axes = [np.arange(size) * step for size, step in zip(shape, spacing_3)]
    z, y, x = np.meshgrid(*(axis - axis.mean() for axis in axes), indexing="ij")
    noise = np.random.default_rng(0).normal(0, 60, shape)
    hu = np.where(x**2 + y**2 < 140**2, np.where(x**2 + y**2 < 110**2, -750, 40) + noise, -1000)
    if lesion:
        near = [np.abs(axis - mm) < 30 for axis, mm in zip((x, y, z), SIDE_MM)]
        hu = np.where(near[0] & near[1] & near[2], 900.0, hu)
    return CTVolume(hu.astype(np.int16), affine), centre_3


def change_map(extract, folder, orientation):
    """How much the lesion changes the embedding of each patch, and the centre of the body in mm."""
    found, centre_3 = [], None
    for lesion in (False, True):
        ct, centre_3 = body(lesion)
        save_as(ct, folder / f"{orientation}_{lesion}.nii.gz", orientation)
        found.append(extract(folder / f"{orientation}_{lesion}.nii.gz"))
    return found[1].on_grid((found[1].patches - found[0].patches).norm(dim=1)), centre_3


def changed_place(change):
    """Centre of mass in mm of the patches that change most. Which of them is the first depends on random weights."""
    z, y, x = np.nonzero(change.array > change.array.max() / 2)
    points_N4 = np.stack([x, y, z, np.ones(len(x))], axis=1)
    return np.average((points_N4 @ change.affine.T)[:, :3], axis=0, weights=change.array[z, y, x])


@pytest.mark.parametrize("name", SMALL)
def test_a_lesion_changes_the_patches_at_its_place(repo_root, tmp_path, name):
    torch.manual_seed(0)
    try:
        extract = FeatureExtractor(config_of(repo_root, name), device="cpu")
    except MissingPackageError as error:
        pytest.skip(str(error))
    change, centre_3 = change_map(extract, tmp_path, "LPI")
    place_3 = changed_place(change) - centre_3
    # A flip would move it to the other side; features are up to 64 mm apart.
    assert (place_3 * SIDE_MM > 0).all() and np.abs(place_3 - SIDE_MM).max() < 70
    if name == "hlip":
        same, _ = change_map(extract, tmp_path, "RAS")
        np.testing.assert_allclose(same.array, change.array, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(same.affine, change.affine, atol=1e-3)


@pytest.mark.filterwarnings("ignore:these weights were trained on phantoms only")
def test_a_released_tower_gives_equal_embeddings_without_its_published_file(repo_root, tmp_path, capfd):
    torch.manual_seed(0)
    tower = TOWERS.build(config_of(repo_root, "hlip").model.backbone.tower)
    published = tmp_path / "hlip.pt"
    torch.save({f"module.visual.trunk.{key}": value for key, value in tower.net.state_dict().items()}, published)
    model = init_model(config_of(repo_root, "hlip", pretrained=str(published)), device="cpu")
    assert weights_remark(model) == RANDOM_EXCEPT_TOWER
    model.fit_tokenizer(TEXTS)
    records = [data_record("PhantomCT", 8, "train", "phantom", synthetic=True, scheme="thorax_abdomen_20")]
    folder = write_release(tmp_path / "released", model.cfg, model.state_dict(), records)
    published.unlink()
    with pytest.raises(CheckpointError, match=r"contains weights from .*hlip\.pt, whose license applies"):
        license_of(records, None, pretrained_sources(model.state_dict()))
    ct, _ = body(True)
    expected = FeatureExtractor(model)(ct)
    capfd.readouterr()
    # The config of the repository has no path of published weights, the one of the training had another.
    sources = [(folder, None), (config_of(repo_root, "hlip"), folder), (model.cfg, folder)]
    for source, checkpoint in sources:
        opened = init_model(source, checkpoint, device="cpu")
        found = FeatureExtractor(opened)(ct)
        assert torch.equal(found.volume, expected.volume) and torch.equal(found.patches, expected.patches)
        assert "phantoms only" in weights_remark(opened) and weights_remark(opened) != OTHER_TOWER_PHANTOMS
        texts = [FeatureExtractor(m).similarity(expected, TEXTS).volume for m in (opened, model)]
        assert torch.equal(*texts)
    assert "random weights" not in "".join(capfd.readouterr())


def test_remarks_state_a_tower_without_published_weights(repo_root):
    model = init_model(config_of(repo_root, "hlip"), device="cpu")
    assert weights_remark(model) == RANDOM_WEIGHTS
    model.training_data = [data_record("PhantomCT", synthetic=True)]
    assert weights_remark(model) == OTHER_TOWER_PHANTOMS
    model.training_data = [data_record("ManifestCT", synthetic=False)]
    assert "without published weights" in weights_remark(model)
    model.backbone.trained = "full"
    assert weights_remark(model) == ""


PACKAGES = {"ct_fm": ("monai", "MONAI"), "merlin": ("merlin", "merlin-vlm"), "spectre": ("spectre", "spectre-fm")}


@pytest.mark.parametrize("name", PACKAGES)
def test_missing_package(repo_root, monkeypatch, name):
    cfg = config_of(repo_root, name)
    module, package = PACKAGES[name]
    for loaded in [key for key in sys.modules if key.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=rf"{package}.*pip install 'ctvlm\[towers\]'"):
        init_model(cfg, device="cpu")


def test_missing_project(repo_root, tmp_path):
    """A config whose project cannot be imported, and a released folder whose project was not imported."""
    config = tmp_path / "own.py"
    base = str(repo_root / "configs/towers/hlip_frozen.py")
    config.write_text(f"_base_ = [{base!r}]\ncustom_imports = dict(imports=['projects.absent.absent_tower'])\n")
    with pytest.raises(ConfigError, match=r"own\.py.*projects\.absent"):
        load_config(config)
    model = init_model(config_of(repo_root, "hlip"), device="cpu")
    model.fit_tokenizer(TEXTS)
    cfg = model.cfg.copy()
    cfg.merge_from_dict({"model.backbone.tower.type": "AbsentTower", "custom_imports.imports": ["projects.absent"]})
    folder = write_release(tmp_path / "released", cfg, model.state_dict(), [])
    with pytest.raises(CheckpointError, match=r"AbsentTower.*import projects\.absent.*config that imports it"):
        init_model(folder, device="cpu")
