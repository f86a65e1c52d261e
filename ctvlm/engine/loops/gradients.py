"""Accumulated gradients, for a checkpoint that is written between two optimizer steps."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_gather, all_gather_object, get_rank, get_world_size
from torch import Tensor, nn

from ctvlm.engine.checkpoint.files import CheckpointError


def gather_gradients(model: nn.Module) -> list[dict[str, Tensor]]:
    """Gradients of each rank by name of the parameter, on the CPU; empty on other ranks than 0.

    All ranks must call this. One parameter is gathered at a time, which bounds the memory of the devices.
    """
    parameters = dict(model.named_parameters())
    own = [name for name, parameter in parameters.items() if parameter.grad is not None]
    ranks: list[dict[str, Tensor]] = [{} for _ in range(get_world_size())]
    for name in sorted(set().union(*all_gather_object(own))):
        gradient = parameters[name].grad
        gathered = all_gather(torch.zeros_like(parameters[name]) if gradient is None else gradient.contiguous())
        if get_rank() == 0:
            for rank, part in zip(ranks, gathered):
                rank[name] = part.detach().cpu()
    return ranks if get_rank() == 0 else []


def restore_gradients(model: nn.Module, gradients: dict[Any, Any]) -> None:
    """Set the gradients of one rank, see ``gather_gradients``.

    Raises:
        CheckpointError: a gradient does not fit the model.
    """
    parameters = dict(model.named_parameters())
    for name, gradient in gradients.items():
        parameter = parameters.get(name)
        if parameter is None or not isinstance(gradient, Tensor) or gradient.shape != parameter.shape:
            raise CheckpointError(f"the checkpoint's accumulated gradient of {name!r:.100} does not fit the model")
        parameter.grad = gradient.to(parameter.device, parameter.dtype)
