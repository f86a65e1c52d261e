"""Checkpoints and configs from before objectives were components."""

from __future__ import annotations

import pytest
import torch

from ctvlm.engine.checkpoint import read_checkpoint
from ctvlm.engine.checkpoint.renames import MOVED, present_model_config, present_weight_names
from ctvlm.registry import MODELS
from ctvlm.utils import CTVLMError
from tests.test_models.test_gradient_caching import build

OLD_NAMES = {
    "global_pooling.query": "space.volume_pooling.query",
    "region_pooling.score.weight": "space.region_pooling.score.weight",
    "global_projection.layers.weight": "space.volume_projection.layers.weight",
    "step_projection.layers.bias": "space.patch_projection.layers.bias",
    "text_projection.layers.bias": "space.text_projection.layers.bias",
    "region_score.weight": "space.region_score.weight",
    "losses.volume.logit_scale.log_scale": "objectives.volume.criterion.logit_scale.log_scale",
    "losses.order.place.weight": "objectives.order.criterion.score.weight",
    "auxiliary.voxels.stem.weight": "objectives.voxels.head.stem.weight",
    "multi_task.log_variance.loss_global": "multi_task.log_variance.loss_volume",
    "backbone.norm.weight": "backbone.norm.weight",
    "module.losses.step.logit_scale.log_scale": "module.objectives.step.criterion.logit_scale.log_scale",
}


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_names_of_weights(old, new):
    assert list(present_weight_names({old: torch.ones(1)})) == [new]
    assert list(present_weight_names({new: torch.ones(1)})) == [new]


def old_name(name: str) -> str:
    for old, new in (
        ("global_pooling.", "space.volume_pooling."),
        ("global_projection.", "space.volume_projection."),
        ("step_projection.", "space.patch_projection."),
        ("", "space."),
    ):
        if name.startswith(new):
            return old + name[len(new) :]
    return name.replace("objectives.", "losses.").replace(".criterion", "")


def test_an_old_checkpoint_loads(tmp_path):
    model = build()
    old = {old_name(name): weight for name, weight in model.state_dict().items()}
    assert {"region_score.weight", "losses.region.logit_scale.log_scale", "global_pooling.query"} <= set(old)
    torch.save(dict(state_dict=old, meta={}), tmp_path / "old.pth")
    read = read_checkpoint(tmp_path / "old.pth")["state_dict"]
    assert list(read) == list(model.state_dict())


def test_an_old_config_builds_the_same_model():
    backbone = dict(type="ThreeDVisionEncoder", embed_dims=24, depth=2, num_regions=5, block=dict(num_heads=2))
    text_encoder = dict(type="CompactTextEncoder", vocab_size=400, embed_dims=16, depth=1, num_heads=2)
    losses = dict(volume=dict(type="CrossModalContrastiveLoss"), step=dict(type="StepAlignmentLoss"))
    old = dict(
        type="CoTContrastiveVLM",
        embed_dims=12,
        step_scale=7.0,
        step_place=False,
        regions_in_volume=True,
        region_map_drop=0.25,
        backbone=backbone,
        text_encoder=text_encoder,
        global_pooling=dict(type="GlobalPooling", mode="mean"),
        step_projection=dict(type="StepProjection", hidden_dims=8),
        losses=losses,
        auxiliary=dict(regions=dict(type="SegmentationHead", num_regions=5, loss_weight=0.5), nothing=None),
        multi_task=dict(type="MultiTaskLoss", weights=dict(loss_global=2.0)),
        init_cfg=None,
    )
    new = dict(
        type="CoTContrastiveVLM",
        space=dict(
            shared_dims=12,
            step_scale=7.0,
            regions_in_volume=True,
            volume_pooling=dict(type="VolumePooling", mode="mean"),
            patch_projection=dict(type="PatchProjection", hidden_dims=8),
        ),
        data_preprocessor=dict(type="CTDataPreprocessor", region_map_drop=0.25),
        backbone=backbone,
        text_encoder=text_encoder,
        losses=losses,
        objectives=dict(
            regions=dict(
                type="SegmentationObjective",
                head=dict(type="SegmentationHead", num_regions=5),
                loss=dict(type="SegmentationLoss", loss_weight=0.5),
            ),
            step=dict(pool_by_mask=False),
        ),
        multi_task=dict(type="MultiTaskLoss", weights=dict(loss_volume=2.0)),
    )
    assert present_model_config(old) == new
    assert present_model_config(new) == new
    model = MODELS.build(present_model_config(old))
    assert model.space.step_scale == 7.0 and not model.objectives["step"].pool_by_mask


def test_an_own_auxiliary_head_is_not_guessed():
    with pytest.raises(CTVLMError, match="OwnHead"):
        present_model_config(dict(type="CoTContrastiveVLM", auxiliary=dict(own=dict(type="OwnHead"))))


@pytest.mark.parametrize("key", ["embed_dims", "step_place", "auxiliary", "region_map_drop"])
def test_an_old_key_in_a_child_config_names_the_present_key(key):
    with pytest.raises(CTVLMError, match=rf"model\.{key}.*model\.{MOVED[key]}"):
        present_model_config(dict(type="CoTContrastiveVLM", space=dict(shared_dims=8)) | {key: 1})
