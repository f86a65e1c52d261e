"""Each config of configs/towers, shrunken, on phantoms: trains regions and steps, or is evaluated as published."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from mmengine.dataset import pseudo_collate

from ctvlm.engine import load_config
from ctvlm.phantom import PhantomCT
from ctvlm.registry import MODELS
from tests.test_configs import ROOT, shrink
from tests.test_models.text_checkpoints import PUBLISHED as TEXT_FOLDERS, WIDTH as TEXT_WIDTH

PUBLISHED = sorted((ROOT / "configs/towers").glob("*_published.py"))
CONFIGS = sorted(set((ROOT / "configs/towers").glob("*.py")) - set(PUBLISHED))
TOWERS = ("colipri", "ct_clip", "ct_fm", "hlip", "merlin", "spectre")
PACKAGES = {"CTFMTower": "monai", "MerlinTower": "merlin", "SpectreTower": "spectre"}
SMALLER = {
    "CTClipTower": dict(spatial_depth=1, temporal_depth=1, head_dims=8, codebook_size=32),
    "CTFMTower": dict(init_filters=4, blocks=(1, 1, 1, 1, 1)),
    "HLIPTower": dict(scan_blocks=(1,)),
    "MerlinTower": dict(blocks=(1, 1, 1, 1)),
}


# Sizes of the training, which the published embedding of a volume needs.
IMG_SIZE = {
    "CTClipTower": dict(img_size=(20, 40, 40)),
    "ColipriTower": dict(img_size=(16, 16, 16), out_dims=TEXT_WIDTH),
    "HLIPTower": dict(img_size=(16, 48, 48)),
    "MerlinTower": dict(img_size=(64, 64, 32)),
}


@pytest.fixture(scope="module")
def batch():
    data = PhantomCT(num_cases=2, shape=(16, 64, 64), pipeline=[dict(type="PackCTInputs")])
    return pseudo_collate([data[0], data[1]])


def small_tower(tower):
    """Replace the sizes of a tower's config; skip the test without its package."""
    if tower.type in PACKAGES:
        pytest.importorskip(PACKAGES[tower.type], reason="needs pip install 'ctvlm[towers]'")
    tower.update(SMALLER.get(tower.type, {}))


def test_there_are_configs():
    assert {path.stem for path in CONFIGS} == {f"{tower}_{mode}" for tower in TOWERS for mode in ("frozen", "lora")}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_step_trains_regions_and_steps(path, batch):
    config = shrink(load_config(path).model)
    tower = config.backbone.tower
    small_tower(tower)
    if config.backbone.train == "lora":
        pytest.importorskip("peft", reason="LoRA needs peft")
    torch.manual_seed(0)
    model = MODELS.build(config)
    coarse = dict(spacing=(6.0, 6.0, 12.0), min_size=(1, 1, 1))
    model.backbone.convention = dataclasses.replace(model.backbone.convention, **coarse)
    data = model.data_preprocessor(batch, training=True)
    model.fit_tokenizer(["A nodule in the right lower lobe.", "The heart is enlarged.", "No effusion."])
    before = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = model.train()(**data, mode="loss")
    assert {"loss_region", "loss_step"} <= losses.keys()
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    # As DDP requires.
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    optimizer.step()
    changed = {name for name, p in model.backbone.named_parameters() if not torch.equal(p, before[name])}
    of_tower = {name for name in changed if name.startswith("tower.")}
    assert "proj.weight" in changed
    assert bool(of_tower) == (config.backbone.train == "lora")
    assert all("lora_" in name for name in of_tower)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_models_embed_volumes_and_texts(path, batch, tmp_path):
    config = shrink(load_config(path).model)
    small_tower(config.tower)
    config.tower.update(IMG_SIZE.get(config.tower.type, {}))
    config.text_encoder.pop("max_length", None)
    config.text_encoder.pretrained = str(TEXT_FOLDERS[config.text_encoder.pretrained](tmp_path))
    torch.manual_seed(0)
    model = MODELS.build(config)
    samples = model.test_step(batch)
    volumes, texts = (torch.stack([getattr(one, f"pred_{k}") for one in samples]) for k in ("volume", "impression"))
    assert volumes.shape == texts.shape == (2, model.text_encoder.embed_dims)
    for found in (volumes, texts):
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
        assert (found[0] - found[1]).abs().max() > 1e-4
    assert len(samples[0].pred_opposites) == len(samples[0].pred_opposite_texts)
