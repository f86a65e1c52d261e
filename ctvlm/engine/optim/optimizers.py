"""Optimizers for large models, and what a contrastive model requires of any optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper, OptimWrapperDict, ZeroRedundancyOptimizer
from torch import nn

from ctvlm.engine.cli.config import ConfigError
from ctvlm.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
def ShardedOptimizer(params: Iterable, optimizer_type: str, **kwargs: Any) -> torch.optim.Optimizer:
    """An optimizer of torch whose state is shared out among the ranks (ZeRO stage 1; Rajbhandari et al., 2020).

    Steps as ``optimizer_type`` itself would, and checkpoints hold the whole state in its format: either may go on
    where the other was stopped, on any number of ranks. One process: that optimizer itself.

    Raises:
        ConfigError: torch.optim has no such optimizer.
    """
    if not isinstance(getattr(torch.optim, optimizer_type, None), type):
        raise ConfigError(f"ShardedOptimizer.optimizer_type is '{optimizer_type}', which torch.optim does not have")
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return ZeroRedundancyOptimizer(params, optimizer_type, **kwargs)
    return getattr(torch.optim, optimizer_type)(params, **kwargs)


def is_sharded(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all ranks must take part in gathering the optimizer's state."""
    return isinstance(optimizer, ZeroRedundancyOptimizer)


def call_after_step(model: nn.Module, optim_wrapper: OptimWrapper | OptimWrapperDict) -> None:
    """Call ``after_optimizer_step()`` of all modules that have it after each step of each optimizer.

    The optimizer itself calls it, so it does not matter what wraps the optimizer, and a step that a loss scaler skips
    is not followed by a call. A sharded optimizer calls it on each rank, after the ranks have exchanged parameters.
    """
    modules = [module for module in model.modules() if hasattr(module, "after_optimizer_step")]

    def after_step(*_: Any) -> None:
        for module in modules:
            module.after_optimizer_step()

    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    for wrapper in wrappers:
        wrapper.optimizer.register_step_post_hook(after_step)


def refuse_accumulation(model: nn.Module, optim_wrapper: dict, batch_size: int | None) -> None:
    """Refuse to accumulate gradients of a model that contrasts the cases of a batch with one another.

    Accumulated gradients would be those of small batches, with few negatives, and not those of the large batch;
    gradient caching gives the latter exactly, in the same memory.

    Raises:
        ConfigError: ``optim_wrapper.accumulative_counts`` is above 1.
    """
    counts = optim_wrapper.get("accumulative_counts", 1)
    if counts == 1:
        return
    from ctvlm.models.losses.contrastive import ContrastiveLoss  # here: it brings all models along

    if not any(isinstance(module, ContrastiveLoss) for module in model.modules()):
        return
    size = batch_size or "n"
    large = batch_size * counts if batch_size else f"{counts}n"
    raise ConfigError(
        f"optim_wrapper.accumulative_counts is {counts}, expected 1: {type(model).__name__} contrasts the cases of a "
        f"batch, and {counts} accumulated batches of {size} never see one another. For the exact gradient of {large} "
        f"cases in the memory of {size}, set train_dataloader.batch_size={large} and model.chunk_size={size} instead "
        "(gradient caching)"
    )
