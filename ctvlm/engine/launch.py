"""Start the process group of distributed training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ctvlm.engine.launch_variables import set_launch_variables
from ctvlm.utils import CTVLMError

# Seconds, the default of torch.distributed for gloo.
TIMEOUT_S = 1800


def init_distributed(launcher: str, dist_cfg: Mapping[str, Any] | None = None) -> str:
    """Join the process group of the launcher, with gloo if there is no GPU.

    Args:
        dist_cfg: ``env_cfg.dist_cfg`` of the config. A collective operation that waits ``timeout`` seconds for another
            process is an error.

    Returns:
        The launcher of the Runner: ``none`` or ``pytorch``.

    Raises:
        CTVLMError: the process was not started by the launcher, there are more processes than GPUs, the port of rank 0
            is in use, or a value of ``dist_cfg`` is invalid.
    """
    launcher = set_launch_variables(launcher)
    if launcher == "none":
        return launcher
    settings = {"backend": "nccl", **(dist_cfg or {})}
    seconds = settings.pop("timeout", TIMEOUT_S)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise CTVLMError(f"env_cfg.dist_cfg.timeout is {seconds!r}; expected a positive number of seconds")
    gpus, local_rank = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local_rank >= gpus:
        raise CTVLMError(
            f"LOCAL_RANK is {local_rank}, but this machine has {gpus} GPUs. "
            "Start at most one process per GPU, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
    if torch.cuda.is_available() and "init_backend" in settings:  # mmengine's Runner joins it with another library
        return launcher
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    else:
        settings = {"backend": "gloo"}
    try:
        if not dist.is_initialized():
            dist.init_process_group(timeout=timedelta(seconds=seconds), **settings)
    except RuntimeError as error:
        if "EADDRINUSE" not in str(error):
            raise
        raise CTVLMError(
            f"port {os.environ.get('MASTER_PORT')} of rank 0 is in use, perhaps by another training. Set another one: "
            "PORT of tools/dist_train.sh, MASTER_PORT of tools/slurm_train.sh and mpirun, --master-port of torchrun"
        ) from error
    return launcher
