"""Files of published models: reading, and loading of their parts by key prefix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ctvlm.utils.errors import CheckpointError
from ctvlm.utils.torch_files import oversized_records, oversized_tensor
from ctvlm.utils.weight_match import check_fits

# Keys of the weights in common checkpoints.
CONTAINERS = ("state_dict", "model", "model_state_dict", "teacher")


def read_published(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a file of torch.save or safetensors, by name.

    Raises:
        CheckpointError: the file cannot be read.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"checkpoint not found: {path}; expected the file of a published model")
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


def weights_below(weights: Mapping[str, Tensor], prefix: str, path: str | Path, option: str) -> dict[str, Tensor]:
    """The weights whose names start with a prefix, without the prefix.

    Args:
        option: config key of the prefix, for the message.

    Raises:
        CheckpointError: no name starts with the prefix.
    """
    below = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not below:
        raise CheckpointError(
            f"checkpoint {path}: none of its {len(weights)} weights starts with prefix = {prefix!r}; found "
            f"{', '.join(list(weights)[:3]) or 'no weights'}. Set {option} to the start of the names of this part."
        )
    return below


def load_exactly(
    module: nn.Module, weights: Mapping[str, Tensor], path: str | Path, part: str, sizes: str, option: str
) -> int:
    """Load weights that must have exactly the names and shapes of a module; returns their number.

    Args:
        part: what the weights are, for the message.
        sizes: config keys with the sizes of the module.
        option: config key of the prefix.

    Raises:
        CheckpointError: a name or shape differs; the message lists what matched and what did not.
    """
    hint = (
        f"Check that this is a checkpoint of {part}, that the sizes of {sizes} are those of the checkpoint, and that "
        f"{option} is the start of the names of this part."
    )
    check_fits(module, {"state_dict": dict(weights)}, path, hint)
    module.load_state_dict(weights)
    return len(weights)
