"""Start the process group of distributed training."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from ctvlm.utils import CTVLMError


def init_distributed(launcher: str) -> None:
    """Join the process group of ``torchrun`` with gloo if there is no GPU.

    With GPUs, mmengine's Runner does it. Without GPUs, mmengine would fail in ``torch.cuda.set_device``.

    Raises:
        CTVLMError: the process was not started by torchrun, or there are more processes than GPUs.
    """
    if launcher != "pytorch":
        return
    if "RANK" not in os.environ or "LOCAL_RANK" not in os.environ:
        raise CTVLMError(
            "--launcher pytorch: the environment variables RANK and LOCAL_RANK are not set. Start with "
            "tools/dist_train.sh, or omit --launcher for a single process"
        )
    gpus, local_rank = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local_rank >= gpus:
        raise CTVLMError(
            f"LOCAL_RANK is {local_rank}, but this machine has {gpus} GPUs. "
            "Start at most one process per GPU, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
    if not torch.cuda.is_available() and not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(minutes=30))
