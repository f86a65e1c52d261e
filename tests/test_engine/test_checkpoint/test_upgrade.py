"""Model configs of earlier versions."""

import copy

import pytest
import torch
from mmengine.config import Config

from ctvlm.engine import ConfigError, load_config
from ctvlm.engine.checkpoint.upgrade import upgrade_model_config
from ctvlm.registry import BACKBONES
from ctvlm.utils import CTVLMError

# The backbone of the tiny preset of version 0.1, as that version wrote it.
OLD = dict(
    type="ThreeDVisionEncoder",
    img_size=(24, 96, 96),
    patch_size=(4, 16, 16),
    in_channels=3,
    embed_dims=128,
    depth=3,
    num_heads=2,
    num_regions=20,
    mlp_ratio=3.0,
    mean=[0.55, 0.17, 0.12],
    std=[0.31, 0.25, 0.14],
    position=dict(type="SinCosPosition3D", scale=0.15),
    patch_embed=dict(type="HierarchicalPatchEmbedding", merges=[(2, 8, 8), (2, 2, 2)], widths=[96]),
    attention=dict(type="SliceAwareAttention"),
    region_encoder=dict(type="SoftOverlapRegionEncoder"),
    region_attention=dict(type="RegionAwareAttention"),
    region_layer=1,
    token_selection="body",
)


def upgraded(**backbone):
    return upgrade_model_config(dict(backbone=dict(backbone)))["backbone"]


def built(backbone):
    torch.manual_seed(0)
    return BACKBONES.build(backbone).state_dict()


def test_an_old_config_becomes_a_current_one(repo_root):
    before = copy.deepcopy(OLD)
    new = upgraded(**OLD)
    assert before == OLD
    preset = load_config(repo_root / "configs/vit3d_cot_contrastive.py").model.backbone.to_dict()
    # The cells of that version.
    preset["patch_embed"] = dict(OLD["patch_embed"], in_channels=3, patch_size=(4, 16, 16))
    a, b = built(new), built(preset)
    assert list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
    assert {**preset["block"], "type": None} == {**new["block"], "type": None}


def test_current_configs_are_unchanged(repo_root):
    for path in [*repo_root.glob("configs/*.py"), *repo_root.glob("configs/baselines/*.py")]:
        model = Config.fromfile(path).to_dict()["model"]
        assert upgrade_model_config(model) == model
    new = upgraded(**OLD)
    assert upgraded(**new) == new


def test_attention_of_single_blocks_becomes_overrides():
    full, window = dict(type="FullAttention"), dict(type="SliceWindowAttention")
    sizes = dict(type="ctvlm.ThreeDVisionEncoder", depth=3)
    new = upgraded(**sizes, attention=[full, window, full], global_attention=window, global_blocks=(-1,))
    assert new["block"] == dict(
        attention=full, overrides=[dict(blocks=[1], attention=window), dict(blocks=[-1], attention=window)]
    )
    assert upgraded(**sizes, region_attention=None)["block"] == dict(region_attention=None)


def test_channel_of_the_body_selection():
    encoder = dict(type="ThreeDVisionEncoder", body_channel=0)
    assert upgraded(**encoder, token_selection="body")["token_selection"] == dict(type="body", channel=0)
    assert upgraded(**encoder) == dict(type="ThreeDVisionEncoder")


def test_options_of_the_learned_region_encoder():
    old = dict(type="LearnedRegionEncoder", teacher=0.5, trust_map=False)
    new = dict(type="LearnedRegionEncoder", map_weight=0.5, use_map_at_eval=False)
    slices = dict(type="SliceWiseTimm", in_channels=1)
    assert upgraded(**slices, mean=[0.5], region_encoder=old) == {
        **slices,
        "normalize": dict(mean=[0.5]),
        "region_encoder": new,
    }
    assert upgraded(type="PluginEncoder", num_heads=2, region_encoder=old) == dict(
        type="PluginEncoder", num_heads=2, region_encoder=new
    )


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("drop_path", 0.1, "model.backbone.block.drop_path"),
        ("attention", dict(type="FullAttention"), "model.backbone.block.attention"),
        ("mean", [0.5, 0.5, 0.5], "model.backbone.normalize.mean"),
        ("region_encoder", dict(type="LearnedRegionEncoder", teacher=1.0), "model.backbone.region_encoder.map_weight"),
    ],
)
def test_an_old_key_in_a_child_config_is_an_error_with_the_new_key(tmp_path, repo_root, old, value, new):
    base = repo_root / "configs/vit3d_cot_contrastive.py"
    child = tmp_path / "child.py"
    child.write_text(f"_base_ = [{str(base)!r}]\nmodel = dict(backbone={ {old: value}!r})\n")
    with pytest.raises(ConfigError, match=new):
        load_config(child)
    with pytest.raises(ConfigError, match=new):
        load_config(base, {f"model.backbone.{old}": value})
    with pytest.raises(CTVLMError, match=new):
        upgrade_model_config(Config.fromfile(child).to_dict()["model"])


def test_a_saved_config_of_an_earlier_version_loads_and_takes_options(tmp_path):
    path = tmp_path / "saved.py"
    path.write_text(f"model = dict(type='CoTContrastiveVLM', backbone={OLD!r})\n")
    cfg = load_config(path, {"model.backbone.block.num_heads": 4})
    assert cfg.model.backbone.block.num_heads == 4
    assert cfg.model.backbone.patch_embed.patch_size == (4, 16, 16)
    with pytest.raises(ConfigError, match=r"model\.backbone\.block\.num_heads"):
        load_config(path, {"model.backbone.num_heads": 4})
