"""Start the process group of distributed training."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from ctvlm.engine.launch_variables import set_launch_variables
from ctvlm.utils import CTVLMError


def init_distributed(launcher: str) -> str:
    """Join the process group of the launcher, with gloo if there is no GPU.

    With GPUs, mmengine's Runner joins it. Without GPUs, mmengine would fail in ``torch.cuda.set_device``.

    Returns:
        The launcher of the Runner: ``none`` or ``pytorch``.

    Raises:
        CTVLMError: the process was not started by the launcher, or there are more processes than GPUs.
    """
    launcher = set_launch_variables(launcher)
    if launcher == "none":
        return launcher
    gpus, local_rank = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local_rank >= gpus:
        raise CTVLMError(
            f"LOCAL_RANK is {local_rank}, but this machine has {gpus} GPUs. "
            "Start at most one process per GPU, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
    if not torch.cuda.is_available() and not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(minutes=30))
    return launcher
