"""DistributedDataParallel for GPU and CPU."""

from __future__ import annotations

from typing import Any

from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from torch import nn

from ctvlm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class CTDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's DDP wrapper without ``device_ids``, which also works on the CPU.

    The data preprocessor moves the inputs to the device. With ``device_ids``, DDP would move a complete batch to the
    GPU, although the model moves it in chunks.

    Args:
        device_ids: ignored; mmengine's Runner passes it.
    """

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **kwargs: Any):
        super().__init__(module=module, device_ids=None, **kwargs)


def unwrap_model(model: Any) -> Any:
    """Return the model inside a wrapper for distributed training, or the model itself."""
    return model.module if is_model_wrapper(model) else model
