"""Run a function on several gloo ranks, from one server that has imported everything once."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Processes are forked from a server that has imported these modules, which saves seconds per process.
_PRELOAD = ["torch", "transformers", "ctvlm.models", "ctvlm.datasets", "ctvlm.engine"]


def _rank(rank: int, function: Callable, world_size: int, meeting: Path, results: Any, args: tuple) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", WORLD_SIZE=str(world_size))
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    # The ranks meet in a file: another process could take a free port before rank 0 does.
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=world_size)
    results[rank] = function(rank, world_size, *args)
    dist.destroy_process_group()


def on_ranks(function: Callable, world_size: int, *args: Any) -> list[Any]:
    """What ``function(rank, world_size, *args)`` returns on each rank; raises where one of them raised."""
    multiprocessing.set_forkserver_preload(_PRELOAD)
    with mp.get_context("forkserver").Manager() as manager, tempfile.TemporaryDirectory() as folder:
        results = manager.dict()
        rest = (function, world_size, Path(folder, "meeting"), results, args)
        mp.start_processes(_rank, rest, nprocs=world_size, start_method="forkserver")
        return [results[rank] for rank in range(world_size)]
