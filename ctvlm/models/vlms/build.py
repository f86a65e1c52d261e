"""From the config of a model to its objectives."""

from __future__ import annotations

from typing import Any

from torch import nn

from ctvlm.registry import OBJECTIVES

# Objectives that configs can name by their loss alone: losses=dict(volume=dict(type="CrossModalContrastiveLoss")).
LEVELS = {
    "volume": "VolumeTextObjective",
    "region": "RegionTextObjective",
    "step": "StepTextObjective",
    "focus": "AttentionFocusObjective",
    "order": "StepOrderObjective",
    "opposite": "OppositeTextObjective",
}
# Their predictions are available even if they are not trained.
ALWAYS_PREDICTED = ("volume", "region", "step", "opposite")

Configs = dict[str, Any]


def objective_configs(losses: Configs | None, objectives: Configs | None) -> dict[str, Configs]:
    """The config of each objective by name: the levels in the order of ``LEVELS``, then the others by name.

    The order does not depend on that of the dicts, which a dumped config sorts: it decides the order of parameters,
    to which a saved optimizer state refers, and the order of texts, to which dropout applies.

    ``losses`` is shorthand: name of a level to the config of its loss, None for a level that is not trained.
    ``objectives`` names any objective, or sets further arguments of a level.

    Raises:
        ValueError: an unknown level, a level whose loss is given twice, or an objective without a type.
    """
    losses, objectives = losses or {}, objectives or {}
    if unknown := set(losses) - set(LEVELS):
        raise ValueError(
            f"Unknown levels {sorted(unknown)} in the model's losses: expected some of {sorted(LEVELS)}. "
            "Configure any other objective in model.objectives."
        )
    configs: dict[str, Configs] = {}
    for name in [*LEVELS, *sorted(set(objectives) - set(LEVELS))]:
        config = dict(objectives.get(name) or {})
        if losses.get(name):
            if "loss" in config:
                raise ValueError(
                    f"The loss of level {name!r} is given in model.losses and in model.objectives: keep one."
                )
            config["loss"] = losses[name]
        elif name in LEVELS and "loss" not in config and "type" not in config:
            config["loss"] = False
            if name not in ALWAYS_PREDICTED:
                continue
        elif not config:
            continue
        config.setdefault("type", LEVELS.get(name))
        if config["type"] is None:
            raise ValueError(f"model.objectives.{name} has no type: expected a component of the registry OBJECTIVES.")
        configs[name] = config
    return configs


def build_objectives(
    losses: Configs | None, objectives: Configs | None, backbone: nn.Module, shared_dims: int
) -> nn.ModuleDict:
    """Name to objective.

    Raises:
        ValueError: as ``objective_configs``, or an objective masks patches and the encoder reads all of them.
    """
    widths = dict(vision_dims=backbone.embed_dims, shared_dims=shared_dims)
    configs = objective_configs(losses, objectives)
    built = {name: OBJECTIVES.build(config, default_args=widths) for name, config in configs.items()}
    masking = [name for name, objective in built.items() if not objective.reads_all_patches]
    if masking and not getattr(backbone, "reads_hu", False):
        raise ValueError(
            f"model.objectives.{masking[0]} masks patches, but {type(backbone).__name__} cannot encode a part of the "
            "patches: use ThreeDVisionEncoder, or remove the objective."
        )
    return nn.ModuleDict(built)
