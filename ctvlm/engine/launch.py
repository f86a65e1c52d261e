"""Start the process group."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from ctvlm.utils import CTVLMError


def init_distributed(launcher: str, timeout_s: float = 1800) -> None:
    """Join the process group of ``torchrun`` when there is no GPU (gloo); mmengine does it where there is one.

    mmengine's own start calls ``torch.cuda.set_device`` without asking whether there is a device.

    Raises:
        CTVLMError: not started by torchrun, or more processes than GPUs.
    """
    if launcher != "pytorch":
        return
    if "RANK" not in os.environ or "LOCAL_RANK" not in os.environ:
        raise CTVLMError(
            "--launcher pytorch expects the variables that torchrun sets, and RANK is not set: "
            "start with tools/dist_train.sh, or leave the flag out for one process"
        )
    gpus, local_rank = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local_rank >= gpus:
        raise CTVLMError(
            f"process {local_rank} of this machine has no GPU: found {gpus}. "
            "Start at most one process per GPU, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
    if not torch.cuda.is_available() and not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(seconds=timeout_s))
