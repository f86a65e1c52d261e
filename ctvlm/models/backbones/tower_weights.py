"""Weights of a published tower: matching, and the choice of those that are trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ctvlm.models.backbones.tower import Tower
from ctvlm.utils.lora import add_lora
from ctvlm.utils.published_weights import load_exactly, weights_below

MODES = ("frozen", "top", "lora", "full")
LORA: dict[str, Any] = dict(r=8, lora_alpha=16, lora_dropout=0.05)


def load_tower(tower: Tower, weights: Mapping[str, Tensor], path: str | Path, prefix: str, option: str) -> int:
    """Load published weights into ``tower.net``. All names and shapes must match.

    Args:
        weights: of the published file ``path``, see ``read_published``.
        prefix: start of the tower's names in the file; other names are ignored.
        option: config key that ``prefix`` and ``tower`` belong to.

    Returns:
        Number of weights loaded.

    Raises:
        CheckpointError: the weights do not match.
    """
    below = tower.from_published(weights_below(weights, prefix, path, f"{option}.prefix"))
    part = type(tower).__name__
    return load_exactly(tower.net, below, path, part, f"{option}.tower", f"{option}.prefix ({prefix!r})")


def load_head(tower: Tower, weights: Mapping[str, Tensor], path: str | Path, prefix: str, option: str) -> int:
    """``load_tower`` for the head, whose names start with ``prefix``."""
    below = tower.head_from_published(weights_below(weights, prefix, path, f"{option}.head_prefix"))
    part = f"a model with the head of {type(tower).__name__}"
    keys = f"{option}.tower", f"{option}.head_prefix ({prefix!r})"
    return load_exactly(tower.published_head(), below, path, part, *keys)


def _takes_adapters(module: nn.Module) -> bool:
    """Linear layers and convolutions. peft refuses convolutions in groups unless the rank is a multiple of them."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv3d) and module.groups == 1)


def choose_trained(
    tower: Tower, mode: str, top_stages: int, lora: dict[str, Any] | None
) -> tuple[nn.Module, list[nn.Module]]:
    """Enable the gradients of what ``mode`` trains.

    Returns:
        The tower, with adapters for ``mode='lora'``, and the modules that are in training mode during training.

    Raises:
        ValueError: an unknown mode, or ``top_stages`` outside of the tower's number of stages.
    """
    if mode not in MODES:
        raise ValueError(f"backbone.train = {mode!r}; expected one of {', '.join(MODES)}")
    tower.requires_grad_(mode == "full")
    if mode == "frozen":
        return tower, []
    if mode == "full":
        return tower, [tower]
    if mode == "lora":
        targets = [name for name, module in tower.named_modules() if _takes_adapters(module)]
        adapted = add_lora(tower, {"target_modules": targets, **LORA, **(lora or {})})
        return adapted, [adapted]
    stages = list(tower.stages())
    if not 0 < top_stages <= len(stages):
        raise ValueError(f"backbone.top_stages = {top_stages}; expected 1 to {len(stages)}, the stages of the tower")
    top = stages[-top_stages:]
    for module in top:
        module.requires_grad_(True)
    return tower, top
