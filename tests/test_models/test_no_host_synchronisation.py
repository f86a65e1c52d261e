"""A training step neither reads values from the device nor waits for it.

The device is torch's ``meta`` device, whose tensors have no values: an operator that reads one fails, and so does one
whose result has a shape that depends on values. Only what the model keeps on the host (samples, token ids, masks of
patches) has values.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ctvlm.engine import load_config
from ctvlm.registry import DATASETS, MODELS, OBJECTIVES, TEXT_ENCODERS
from ctvlm.testing.objectives import LABELS, REGIONS, SENTENCES, random_batch, small_model
from ctvlm.utils import attention_masks
from tests.test_models import text_checkpoints as saved
from tests.test_models.test_backbones import test_pretrained_tower  # noqa: F401  (registers MeanTower)

DEVICE = torch.device("meta")
# Operators that wait for a GPU. A boolean index calls nonzero.
SYNCHRONISING = frozenset(
    {
        "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount", "unique_dim",
        "_unique", "_unique2", "unique_consecutive", "histc",
    }
)  # fmt: skip
PATCHES = dict(patch_embed=dict(patch_size=(2, 4, 4)))
SIZES = dict(embed_dims=16, depth=1, num_heads=2, vocab_size=320, max_length=64)
VARIANTS = [
    dict(type="VolumeTextObjective"),
    dict(type="RegionTextObjective"),
    dict(type="RegionTextObjective", loss=dict(type="RegionAlignmentLoss", cross_region=False, similar=0.9)),
    dict(type="RegionTextObjective", loss=dict(type="SigmoidContrastiveLoss")),
    dict(type="StepTextObjective"),
    dict(type="StepOrderObjective"),
    dict(type="AttentionFocusObjective"),
    dict(type="OppositeTextObjective"),
    dict(type="OppositeTextObjective", view="step"),
    dict(type="PromptClassificationObjective", names=LABELS),
    dict(type="ClassificationObjective", head=dict(type="ClassificationHead", names=LABELS)),
    dict(type="MaskedReconstructionObjective", decoder=dict(patch_size=(2, 4, 4), embed_dims=12)),
    dict(type="SegmentationObjective", head=dict(type="SegmentationHead", num_regions=REGIONS)),
    dict(type="SegmentationObjective", head=dict(type="VoxelSegmentationHead", num_regions=REGIONS)),
    dict(type="PointSegmentationObjective", head=dict(type="PointSegmentationHead", num_regions=REGIONS)),
    dict(type="GenerationObjective", head=dict(type="CoTGenerationHead", **SIZES)),
]


class NoSynchronisation(TorchDispatchMode):
    """Refuse operators that read values of the device, and copies from the host that wait for the device."""

    def __init__(self):
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = any(tensor.device == DEVICE for tensor in given)
        name = func._schema.name.removeprefix("aten::")
        assert not (on_device and name in SYNCHRONISING), f"{name} waits for the device"
        out = func(*args, **kwargs)
        if name in ("_to_copy", "copy_") and given[-1].device != DEVICE and out.device == DEVICE:
            waits = not kwargs.get("non_blocking", name == "copy_" and len(args) > 2 and args[2])
            assert not waits, "a copy from the host without non_blocking waits for the device"
            self.copies += 1
        return out


class NoHostValues(TorchFunctionMode):
    """Refuse tensors of the device from values of the host, and host indices: torch copies both with a wait."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor):
            assert out.device != DEVICE or not out.numel(), "a tensor of the device from values of the host"
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and args[0].device == DEVICE:
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            host = [part for part in parts if isinstance(part, torch.Tensor) and part.device != DEVICE]
            assert not host and not any(isinstance(part, list) for part in parts), "an index on the host"
        return out


@contextlib.contextmanager
def no_synchronisation():
    with NoHostValues(), NoSynchronisation() as mode:
        yield mode


@pytest.fixture(autouse=True)
def autocast(monkeypatch):
    """The meta device has no autocast."""
    usual, enabled = torch.autocast, torch.is_autocast_enabled

    def context(device_type, **kwargs):
        return contextlib.nullcontext() if device_type == DEVICE.type else usual(device_type, **kwargs)

    monkeypatch.setattr(torch, "autocast", context)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind="cuda": kind != DEVICE.type and enabled(kind))


def packed(inputs, samples):
    """A batch as the data loader gives it."""
    for sample, spacing in zip(samples, inputs["spacing"].tolist(), strict=True):
        sample.set_metainfo(dict(spacing=tuple(spacing)))
    maps = inputs["region_map"]
    maps = [None] * len(samples) if maps is None else list(maps)
    return dict(inputs=dict(volume=list(inputs["volume"]), region_map=maps), data_samples=samples)


def step(model, batch):
    """Forward and backward pass of a batch on the host; returns the number of copies to the device."""
    model = model.train().to(DEVICE)
    data = model.data_preprocessor(batch, True)
    with no_synchronisation() as mode:
        loss, _ = model.parse_losses(model(**data, mode="loss"))
        loss.backward()
    assert loss.device == DEVICE
    assert any(p.grad is not None for p in model.parameters())
    return mode.copies


@pytest.mark.parametrize("config", VARIANTS, ids=lambda config: str(config["type"]))
def test_objectives(config):
    step(small_model(config), packed(*random_batch(4)))


@pytest.mark.parametrize("config", VARIANTS, ids=lambda config: str(config["type"]))
def test_objectives_without_targets(config):
    step(small_model(config), packed(*random_batch(2, empty=True)))


def test_all_objectives_are_tested():
    own = {name for name, kind in OBJECTIVES.module_dict.items() if kind.__module__.startswith("ctvlm.")}
    assert own == {config["type"] for config in VARIANTS}


def build(path, cases, **options):
    """Model and batch of a config."""
    cfg = load_config(path, {"train_dataloader.dataset.num_cases": cases, **options})
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    model = MODELS.build(cfg.model)
    model.fit_tokenizer(dataset.texts())
    return model, pseudo_collate([dataset[i] for i in range(cases)])


def test_default_config():
    model, batch = build("configs/vit3d_cot_contrastive.py", 3)
    assert step(model, batch) < 30


def test_predicted_regions_chunks_and_recomputed_blocks():
    options = {
        "model.backbone.region_encoder.type": "LearnedRegionEncoder",
        "model.backbone.block.use_checkpoint": True,
        "model.data_preprocessor.region_map_drop": 0.5,
        "model.chunk_size": 2,
    }
    step(*build("configs/vit3d_cot_contrastive.py", 3, **options))


@pytest.mark.parametrize(
    "backbone",
    [
        dict(type="PretrainedTower", tower=dict(type="MeanTower", spacing=(2.0, 2.0, 2.0)), train="full"),
        dict(type="LiteralVisionEncoder", img_size=(4, 12, 8), block=dict(num_heads=2), depth=1),
        dict(type="FactorizedCTViT", spatial_depth=1, temporal_depth=1, block=dict(num_heads=2)),
    ],
    ids=lambda backbone: backbone["type"],
)
def test_other_encoders(backbone):
    text_encoder = dict(type="CompactTextEncoder", **SIZES)
    losses = dict(volume=dict(type="CrossModalContrastiveLoss"), region=dict(type="RegionAlignmentLoss"))
    sizes = dict(embed_dims=24, num_regions=REGIONS)
    sizes |= dict(patch_size=(2, 4, 4)) if backbone["type"] == "PretrainedTower" else PATCHES
    windows = ["soft_tissue"] if backbone["type"] == "LiteralVisionEncoder" else ["lung", "soft_tissue", "bone"]
    model = MODELS.build(
        dict(
            type="CoTContrastiveVLM",
            backbone={**backbone, **sizes},
            text_encoder=text_encoder,
            losses=losses,
            data_preprocessor=dict(type="CTDataPreprocessor", windows=windows),
        )
    )
    model.fit_tokenizer(SENTENCES)
    step(model, packed(*random_batch(2)))


@pytest.mark.parametrize("save", [saved.save_bert, saved.save_roberta, saved.save_t5, saved.save_gpt2])
@pytest.mark.parametrize("train", ["full", "frozen"])
def test_pretrained_text_encoders(tmp_path, save, train):
    encoder = TEXT_ENCODERS.build(dict(type="HFTextEncoder", pretrained=str(save(tmp_path / "model")), train=train))
    encoder.train().to(DEVICE)
    with no_synchronisation():
        assert encoder(SENTENCES).device == DEVICE


@pytest.mark.parametrize("equal_lengths", [True, False])
@pytest.mark.parametrize("save", [saved.save_bert, saved.save_roberta, saved.save_t5, saved.save_gpt2])
def test_prepared_masks_equal_those_of_transformers(tmp_path, save, equal_lengths):
    folder = str(save(tmp_path / "model"))
    model = TEXT_ENCODERS.build(dict(type="HFTextEncoder", pretrained=folder)).model.eval()
    assert model.config.model_type in attention_masks.BIDIRECTIONAL | attention_masks.CAUSAL
    ids_ST, mask_ST = torch.randint(5, 40, (3, 7)), torch.ones(3, 7, dtype=torch.bool)
    if not equal_lengths:
        mask_ST[1, 4:], mask_ST[2, 2:] = False, False
    prepared = attention_masks.padding_mask(model, mask_ST, torch.device("cpu"))
    assert prepared is None or prepared.ndim == 4
    with torch.no_grad():
        found = model(input_ids=ids_ST, attention_mask=prepared).last_hidden_state
        expected = model(input_ids=ids_ST, attention_mask=mask_ST.long()).last_hidden_state
    torch.testing.assert_close(found[mask_ST], expected[mask_ST])


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.bincount(x),
        lambda x: torch.equal(x, x),
        lambda x: x.unique(),
        lambda x: torch.tensor([1, 2], device=x.device),
        lambda x: torch.tensor([1, 2]).to(x.device),
        lambda x: x.new_tensor([1.0]),
        lambda x: x[[0, 1]],
        lambda x: x[torch.tensor([0, 1])],
    ],
)
def test_what_waits_is_refused(wait):
    with pytest.raises((AssertionError, RuntimeError)), no_synchronisation():
        wait(torch.zeros(3, dtype=torch.long, device=DEVICE))
