"""Optimizers whose state is sharded over the ranks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from mmengine.optim import ZeroRedundancyOptimizer

from ctvlm.engine.cli.config import ConfigError
from ctvlm.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
def ShardedOptimizer(params: Iterable, optimizer_type: str, **kwargs: Any) -> torch.optim.Optimizer:
    """An optimizer of torch.optim whose state is sharded over the ranks (ZeRO stage 1; Rajbhandari et al., 2020).

    Its steps equal those of the unsharded optimizer. Checkpoints contain the complete state in the format of
    ``optimizer_type``, so a run can be resumed with or without sharding and on any number of ranks. In a single process
    this returns the unsharded optimizer.

    Args:
        optimizer_type: name of a class in torch.optim.
        kwargs: arguments of that class.

    Raises:
        ConfigError: torch.optim has no such optimizer.
    """
    if not isinstance(getattr(torch.optim, optimizer_type, None), type):
        raise ConfigError(f"ShardedOptimizer.optimizer_type: found '{optimizer_type}'; expected a class of torch.optim")
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return ZeroRedundancyOptimizer(params, optimizer_type, **kwargs)
    return getattr(torch.optim, optimizer_type)(params, **kwargs)


def is_sharded(optimizer: torch.optim.Optimizer) -> bool:
    """Whether gathering the optimizer's state requires all ranks."""
    return isinstance(optimizer, ZeroRedundancyOptimizer)
