"""Weights of a published tower: reading, matching, and the choice of those that are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ctvlm.models.backbones.tower import Tower
from ctvlm.utils.errors import CheckpointError
from ctvlm.utils.lora import add_lora
from ctvlm.utils.torch_files import oversized_records, oversized_tensor
from ctvlm.utils.weight_match import check_fits

MODES = ("frozen", "top", "lora", "full")
LORA: dict[str, Any] = dict(r=8, lora_alpha=16, lora_dropout=0.05)
# Keys of the weights in common checkpoints.
CONTAINERS = ("state_dict", "model", "model_state_dict", "teacher")


def load_tower(tower: Tower, path: str | Path, prefix: str) -> int:
    """Load published weights into ``tower.net``. All names and shapes must match.

    Args:
        path: file of torch.save or safetensors.
        prefix: start of the tower's names in the file; other names are ignored.

    Returns:
        Number of weights loaded.

    Raises:
        CheckpointError: the file cannot be read, or its weights do not match.
    """
    path = Path(path).expanduser()
    everything = _read(path)
    below = {key.removeprefix(prefix): value for key, value in everything.items() if key.startswith(prefix)}
    if not below:
        raise CheckpointError(
            f"checkpoint {path}: none of its {len(everything)} weights starts with prefix = {prefix!r}; found "
            f"{', '.join(list(everything)[:3]) or 'no weights'}. Set backbone.prefix to the start of the tower's names."
        )
    weights = tower.from_published(below)
    hint = (
        f"Check that this is a checkpoint of {type(tower).__name__}, that the sizes of backbone.tower are those of the "
        f"checkpoint, and that backbone.prefix ({prefix!r}) is the start of the tower's names."
    )
    check_fits(tower.net, {"state_dict": weights}, path, hint)
    tower.net.load_state_dict(weights)
    return len(weights)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"checkpoint not found: {path}; expected the file of a published tower")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        problem = oversized_records(path)
        content = None if problem else torch.load(path, map_location="cpu", weights_only=True)
        problem = problem or oversized_tensor(content)
    except Exception as error:  # the content can be anything
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): expected a file of torch.save with tensors "
            "and plain containers only, or .safetensors. Download it again, or save its state dict alone"
        ) from error
    if problem:
        raise CheckpointError(f"checkpoint {path} is damaged or too large: {problem}. Download it again")
    for key in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    weights = content if isinstance(content, dict) else {}
    return {key: value for key, value in weights.items() if isinstance(key, str) and isinstance(value, Tensor)}


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
