"""DistributedDataParallel on GPUs and on the CPU."""

from __future__ import annotations

from typing import Any

from mmengine.model import MMDistributedDataParallel
from torch import nn

from ctvlm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class CTDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's DDP wrapper that ignores ``device_ids`` for a model on the CPU, where DDP refuses them."""

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **kwargs: Any):
        if next(module.parameters()).device.type == "cpu":
            device_ids = None
        super().__init__(module=module, device_ids=device_ids, **kwargs)
