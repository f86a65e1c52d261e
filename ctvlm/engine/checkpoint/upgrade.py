"""Upgrade of model configs that earlier versions wrote, so that their checkpoints can still be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from ctvlm.engine.checkpoint.renames import present_model_config
from ctvlm.utils import CTVLMError

ENCODERS = ("ThreeDVisionEncoder", "LiteralVisionEncoder", "FactorizedCTViT")
# Old key of a backbone to its new key.
MOVED = {
    "patch_size": "patch_embed.patch_size",
    "in_channels": "patch_embed.in_channels",
    "mean": "normalize.mean",
    "std": "normalize.std",
    "num_heads": "block.num_heads",
    "mlp_ratio": "block.mlp_ratio",
    "drop": "block.drop",
    "drop_path": "block.drop_path",
    "attention": "block.attention",
    "region_attention": "block.region_attention",
    "use_checkpoint": "block.use_checkpoint",
    "global_attention": "block.overrides",
    "global_blocks": "block.overrides",
    "body_channel": "token_selection.channel",
}
# SliceWiseTimm keeps its in_channels.
MOVED_IN = {"SliceWiseTimm": {key: MOVED[key] for key in ("mean", "std")}, **dict.fromkeys(ENCODERS, MOVED)}
# Old option of a region encoder to its new name.
REGION_ENCODER_OPTIONS = {"teacher": "map_weight", "trust_map": "use_map_at_eval"}


def upgrade_model_config(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a model with the current keys. A config that has them already is returned unchanged.

    Args:
        model: ``cfg.model`` as plain dicts; it is not modified.

    Raises:
        CTVLMError: a part of the config has old and new keys, as a child config with an old key does; the message
            states the new key.
    """
    upgraded = present_model_config(model)
    if isinstance(model.get("backbone"), Mapping):
        upgraded["backbone"] = _upgrade_backbone(model["backbone"])
    return upgraded


def upgrade_config(cfg: Config) -> Config:
    """``upgrade_model_config`` for the model of a loaded config, in place."""
    if isinstance(cfg.get("model"), Mapping):
        model = cfg.to_dict()["model"]
        upgraded = upgrade_model_config(model)
        if upgraded != model:
            cfg.model = upgraded
    return cfg


def _upgrade_backbone(backbone: Mapping[str, Any]) -> dict[str, Any]:
    moved = MOVED_IN.get(str(backbone.get("type")).rpartition(".")[2], {})
    old = {key: moved[key] for key in backbone if key in moved}
    region_encoder = backbone.get("region_encoder")
    if isinstance(region_encoder, Mapping):
        names = [name for name in REGION_ENCODER_OPTIONS if name in region_encoder]
        old |= {f"region_encoder.{name}": f"region_encoder.{REGION_ENCODER_OPTIONS[name]}" for name in names}
    if not old:
        return dict(backbone)
    if new := _current_keys(backbone):
        changes = "; ".join(f"model.backbone.{key}: use model.backbone.{name}" for key, name in old.items())
        raise CTVLMError(f"the config mixes old and current keys (model.backbone.{new[0]}). {changes}.")

    upgraded = {key: value for key, value in backbone.items() if key not in old}
    if isinstance(region_encoder, Mapping):
        upgraded["region_encoder"] = {
            REGION_ENCODER_OPTIONS.get(key, key): value for key, value in region_encoder.items()
        }
    for key in moved:
        if key in backbone:
            _move(upgraded, key, moved[key], backbone)
    return upgraded


def _current_keys(backbone: Mapping[str, Any]) -> list[str]:
    """Keys that no earlier version had."""
    keys = ["normalize"] if "normalize" in backbone else []
    for group in ("patch_embed", "block", "token_selection"):
        inner = backbone.get(group)
        names = {new.partition(".")[2] for new in MOVED.values() if new.startswith(f"{group}.")}
        keys += [f"{group}.{name}" for name in inner if name in names] if isinstance(inner, Mapping) else []
    region_encoder = backbone.get("region_encoder")
    if isinstance(region_encoder, Mapping):
        keys += [f"region_encoder.{name}" for name in REGION_ENCODER_OPTIONS.values() if name in region_encoder]
    return keys


def _move(upgraded: dict[str, Any], key: str, new: str, backbone: Mapping[str, Any]) -> None:
    """Put the value of an old key at its new key."""
    value, (group, _, name) = backbone[key], new.partition(".")
    if key == "global_blocks":
        return
    if key == "body_channel":
        if backbone.get("token_selection", "none") != "none":
            upgraded[group] = {"type": backbone["token_selection"], name: value}
        return
    inner = dict(upgraded.get(group) or {})
    if key == "attention" and isinstance(value, (list, tuple)):
        first, *others = value
        inner[name] = first
        different = [i for i, config in enumerate(others, 1) if config != first]
        inner["overrides"] = [dict(blocks=[i], attention=value[i]) for i in different]
    elif key == "global_attention":
        if backbone.get("global_blocks"):
            override = dict(blocks=list(backbone["global_blocks"]), attention=value)
            inner["overrides"] = [*inner.get("overrides", []), override]
    elif value is not None or key == "region_attention":
        inner[name] = value
    if inner:
        upgraded[group] = inner
