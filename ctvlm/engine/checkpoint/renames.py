"""Names in checkpoints of version 0.1 before objectives were components, and their present names."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ctvlm.utils import CTVLMError

# Regular expression of an old weight name, and its replacement. The first that matches is applied.
WEIGHTS = (
    (r"^global_pooling\.", "space.volume_pooling."),
    (r"^global_projection\.", "space.volume_projection."),
    (r"^step_projection\.", "space.patch_projection."),
    (r"^(region_pooling|region_projection|text_projection|region_score)\.", r"space.\1."),
    (r"^losses\.order\.place\.", "objectives.order.criterion.score."),
    (r"^losses\.(\w+)\.", r"objectives.\1.criterion."),
    (r"^auxiliary\.(\w+)\.", r"objectives.\1.head."),
    (r"^multi_task\.log_variance\.loss_global$", "multi_task.log_variance.loss_volume"),
)
# Arguments of the model that are now arguments of its space.
SPACE = {
    "embed_dims": "shared_dims",
    "global_pooling": "volume_pooling",
    "global_projection": "volume_projection",
    "step_projection": "patch_projection",
    **{name: name for name in ("region_pooling", "region_projection", "text_projection", "shared_projection")},
    **{name: name for name in ("regions_in_volume", "step_scale")},
}
MOVED = {old: f"space.{new}" for old, new in SPACE.items()} | {
    "region_map_drop": "data_preprocessor.region_map_drop",
    "step_place": "objectives.step.pool_by_mask",
    "auxiliary": "objectives",
}
TYPES = {
    "GlobalPooling": "VolumePooling",
    "GlobalProjection": "VolumeProjection",
    "StepProjection": "PatchProjection",
}
# The objective of each head that was listed in ``auxiliary``.
OBJECTIVES = {
    "SegmentationHead": "SegmentationObjective",
    "RegionLogitsHead": "SegmentationObjective",
    "VoxelSegmentationHead": "SegmentationObjective",
    "ClassificationHead": "ClassificationObjective",
    "CoTGenerationHead": "GenerationObjective",
    "PrefixGenerationHead": "GenerationObjective",
}


def present_weight_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under their present names. Present names stay."""
    return {_present(name): weight for name, weight in state_dict.items()}


def _present(name: str) -> str:
    prefix = "module." if name.startswith("module.") else ""
    name = name[len(prefix) :]
    for pattern, replacement in WEIGHTS:
        present, count = re.subn(pattern, replacement, name)
        if count:
            return prefix + present
    return prefix + name


def present_model_config(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a CoTContrastiveVLM with present keys. A present config stays as it is.

    Raises:
        CTVLMError: old keys beside ``space``, as in a child config with an old key, or an auxiliary head without an
            objective; names them.
    """
    new = _present_types(copy.deepcopy(dict(model)))
    if str(new.get("type", "")).split(".")[-1] != "CoTContrastiveVLM":
        return new
    if "space" in new and (old := [key for key in MOVED if key in new]):
        changes = "; ".join(f"model.{key}: use model.{MOVED[key]}" for key in old)
        raise CTVLMError(f"the config mixes old and current keys (model.space). {changes}.")
    new.pop("init_cfg", None)
    if space := {SPACE[name]: new.pop(name) for name in SPACE if name in new}:
        new["space"] = space | dict(new.get("space") or {})
    if "region_map_drop" in new:
        preprocessor = dict(new.get("data_preprocessor") or dict(type="CTDataPreprocessor"))
        new["data_preprocessor"] = preprocessor | dict(region_map_drop=new.pop("region_map_drop"))
    objectives = dict(new.get("objectives") or {})
    for name, head in (new.pop("auxiliary", None) or {}).items():
        if head:
            objectives[name] = _objective_of(head)
    if "step_place" in new:
        by_mask = new.pop("step_place")
        for name in {"step", "order"} & set(new.get("losses") or {}):
            objectives[name] = dict(pool_by_mask=by_mask) | dict(objectives.get(name) or {})
    if objectives:
        new["objectives"] = objectives
    weights = (new.get("multi_task") or {}).get("weights") or {}
    if "loss_global" in weights:
        weights["loss_volume"] = weights.pop("loss_global")
    return new


def _objective_of(head: Mapping[str, Any]) -> dict[str, Any]:
    head = dict(head)
    kind = str(head["type"]).split(".")[-1]
    if kind not in OBJECTIVES:
        raise CTVLMError(
            f"model.auxiliary has the head {kind}, which has no objective; expected one of {sorted(OBJECTIVES)}. Write "
            "an objective for it (registry OBJECTIVES) and name it in model.objectives."
        )
    objective: dict[str, Any] = dict(type=OBJECTIVES[kind])
    loss = dict(head.pop("loss", None) or {})
    if "loss_weight" in head:
        loss["loss_weight"] = head.pop("loss_weight")
    if loss:
        default = dict(SegmentationObjective="SegmentationLoss", ClassificationObjective="ClassificationLoss")
        objective["loss"] = dict(type=default.get(objective["type"], "GenerationLoss")) | loss
    return objective | dict(head=head)


def _present_types(value: Any) -> Any:
    if isinstance(value, Mapping):
        renamed = {key: _present_types(item) for key, item in value.items()}
        if isinstance(renamed.get("type"), str):
            renamed["type"] = TYPES.get(renamed["type"], renamed["type"])
        return renamed
    if isinstance(value, (list, tuple)):
        return type(value)(_present_types(item) for item in value)
    return value
