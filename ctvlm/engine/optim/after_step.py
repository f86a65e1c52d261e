"""Let modules act after each optimizer step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn


def call_after_step(model: nn.Module, optim_wrapper: OptimWrapper | OptimWrapperDict) -> None:
    """Call ``after_optimizer_step()`` of every module that defines it after each optimizer step.

    It is registered as a hook of the optimizer itself. Therefore it works with any optimizer wrapper, and is not called
    after a step that a loss scaler skips. A sharded optimizer calls it on each rank, after the ranks have exchanged
    their parameters.
    """
    callbacks: list[Callable[[], None]] = [
        callback
        for module in model.modules()
        if (callback := getattr(module, "after_optimizer_step", None)) is not None
    ]

    def after_step(*_: Any) -> None:
        for callback in callbacks:
            callback()

    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    for wrapper in wrappers:
        wrapper.optimizer.register_step_post_hook(after_step)
