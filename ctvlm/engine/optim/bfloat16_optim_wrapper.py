"""Mixed precision on any device."""

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
    """Forward pass under bfloat16 autocast, on CPU and GPU.

    bfloat16 has float32's range, so there is no loss scaler and nothing more to save in a checkpoint.
    mmengine's AmpOptimWrapper needs an accelerator.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast beside mmengine's handling of accumulated gradients."""
        with super().optim_context(model), torch.autocast(get_device(), dtype=torch.bfloat16):
            yield
