"""DistributedDataParallel on GPUs and on the CPU."""

from __future__ import annotations

from typing import Any

from mmengine.model import MMDistributedDataParallel
from torch import nn

from ctvlm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class CTDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's DDP wrapper that leaves inputs where they are, and so works on the CPU too.

    The data preprocessor moves them. Given ``device_ids``, DDP would move a whole batch to the GPU that the model
    wants there in chunks only; and a model on the CPU may have none.
    """

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **kwargs: Any):
        super().__init__(module=module, device_ids=None, **kwargs)
