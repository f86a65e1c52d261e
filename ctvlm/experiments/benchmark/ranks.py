"""Throughput of the training step on several processes."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ctvlm.datasets.conversion.open_cases import available_cores
from ctvlm.engine.cli.config import config_path
from ctvlm.experiments.benchmark.step_process import StepProcess


def measure_ranks(config: str, ranks: Sequence[int], cases: int, repeats: int) -> dict[str, Any]:
    """Train steps on several numbers of gloo processes on the CPU, in turn.

    Each rank has the batch size of the config, its own cases, and the same number of threads: OMP_NUM_THREADS, or the
    cores divided by the largest number of ranks. One rank trains without DDP, as ``tools/train.py`` does.

    Returns:
        ``cores`` of this machine, ``threads`` per rank, and ``ranks``: one row per number of ranks with the medians of
        the seconds per step, the cases per second of all ranks, their median ratio to the first row, and whether ranks
        ``share_cores``, because there are fewer cores than ranks times threads.

    Raises:
        CTVLMError: a step fails.
    """
    cores = available_cores()
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cores // max(ranks)))
    environment = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        groups: dict[int, StepProcess] = {}
        for count in ranks:
            log = Path(folder) / f"{count}.log"
            groups[count] = stack.enter_context(
                StepProcess(config_path(config), "cpu", cases, log, environment=environment, ranks=count)
            )
            groups[count].step()  # warm-up
        seconds = [{count: group.step()["step_s"] for count, group in groups.items()} for _ in range(repeats)]
        batch = int(groups[ranks[0]].ready["batch"])
    rows = []
    for count in ranks:
        ratios = [count / row[count] / (ranks[0] / row[ranks[0]]) for row in seconds]
        step_s = statistics.median(row[count] for row in seconds)
        rows.append(
            dict(
                ranks=count,
                step_s=step_s,
                cases_per_s=count * batch / step_s,
                ratio=statistics.median(ratios),
                share_cores=count * threads > cores,
            )
        )
    return dict(cores=cores, threads=threads, batch_per_rank=batch, ranks=rows)
