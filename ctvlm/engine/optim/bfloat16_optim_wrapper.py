"""Mixed precision with bfloat16 on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from ctvlm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Optimizer wrapper whose forward pass runs under bfloat16 autocast, on CPU and GPU.

    bfloat16 has the range of float32, so no loss scaler is needed. mmengine's AmpOptimWrapper does not work on the CPU.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast, in addition to mmengine's context for gradient accumulation."""
        with super().optim_context(model), torch.autocast(get_device(), dtype=torch.bfloat16):
            yield
