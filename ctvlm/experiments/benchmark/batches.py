"""Peak memory and time of a training step for several batch sizes, with gradient caching."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ctvlm.engine.cli.config import config_path
from ctvlm.experiments.benchmark.step_process import StepProcess

MIB = 2**20
# Otherwise glibc keeps freed blocks of a few MiB, which would count as used memory.
RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "262144"}


def measure_batches(config: str, batches: Sequence[int], chunk: int, device: str, cases: int) -> list[dict[str, float]]:
    """Train one step of each batch size in a new process.

    Returns:
        Batch size, peak memory of the process (libraries and loaded cases included; on a GPU, what torch has
        allocated there), memory before the step, ratio to the first peak, and seconds.

    Raises:
        CTVLMError: a step fails.
    """
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for batch in batches:
            options = {"train_dataloader.batch_size": batch, "model.chunk_size": chunk}
            log = Path(folder) / f"{batch}.log"
            with StepProcess(
                config_path(config), device, cases, log, options=options, environment=RETURN_FREED_MEMORY
            ) as process:
                found = process.step()
                before = process.ready["peak_bytes"]
            first = rows[0]["peak_mib"] if rows else found["peak_bytes"] / MIB
            rows.append(
                dict(
                    batch=batch,
                    peak_mib=found["peak_bytes"] / MIB,
                    before_mib=before / MIB,
                    ratio=found["peak_bytes"] / MIB / first,
                    seconds=found["step_s"],
                )
            )
    return rows
