"""Train planned runs in parallel processes and store their results."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ctvlm.engine.checkpoint import write_json
from ctvlm.experiments.seed_runs import SeedRun
from ctvlm.experiments.training_process import (
    last_error,
    read_metrics,
    read_scalars,
    start_process,
    stop_process,
    threads_per_process,
)

# Builds the command that trains a run. The command writes results.json to the run's folder.
Command = Callable[[SeedRun], list[str]]


def train_missing(runs: Sequence[SeedRun], command: Command, jobs: int, console: Console) -> dict[str, str]:
    """Train the runs that have no result of their current config, and show the progress.

    Returns:
        The first error of each config with a failed run.
    """
    missing = [run for run in runs if run.load_result() is None]
    errors: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, closing(train_all(missing, command, jobs)) as finished:
        task = progress.add_task("Runs", total=len(runs), completed=len(runs) - len(missing))
        for run, error in finished:
            progress.advance(task)
            console.print(f"{run.name}, seed {run.seed}: {error or 'done'}", markup=False)
            if error:
                errors.setdefault(run.name, f"seed {run.seed}: {error}")
    return errors


def train_all(
    runs: Sequence[SeedRun], command: Command, jobs: int
) -> Generator[tuple[SeedRun, str | None], None, None]:
    """Train ``jobs`` runs at a time; yield each finished run with its error, or None if it succeeded.

    Closing the generator stops the active runs.
    """
    environment = {"OMP_NUM_THREADS": str(threads_per_process(jobs)), **os.environ}
    waiting = list(runs)
    active: dict[SeedRun, tuple[subprocess.Popen, float]] = {}
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                run = waiting.pop(0)
                shutil.rmtree(run.folder, ignore_errors=True)
                run.folder.mkdir(parents=True)
                active[run] = (start_process(command(run), run.log, environment), time.monotonic())
            time.sleep(0.1)
            for run, (process, started) in list(active.items()):
                if process.poll() is not None:
                    del active[run]
                    yield run, store_result(run, process.returncode, time.monotonic() - started)
    finally:
        for process, _ in active.values():
            stop_process(process)


def store_result(run: SeedRun, exit_code: int, seconds: float) -> str | None:
    """Write the result of a finished run; return an error message if there is none."""
    if exit_code == 0 and (run.folder / "results.json").is_file():
        metrics = {**read_metrics(run.folder), **mean_last_losses(run)}
        content = dict(config=run.name, seed=run.seed, digest=run.digest, seconds=seconds, metrics=metrics)
        write_json(run.result, content)
        return None
    return f"exit code {exit_code}: {last_error(run.log)[:200]} (log: {run.log})"


def mean_last_losses(run: SeedRun, last: int = 5) -> dict[str, float]:
    """Mean of the last logged values of each training loss, under the name ``train/<loss>``."""
    values: dict[str, list[float]] = {}
    for scalars in read_scalars(run.folder):
        for name, value in scalars.items():
            if name.startswith("loss"):
                values.setdefault(f"train/{name}", []).append(value)
    return {name: sum(logged[-last:]) / len(logged[-last:]) for name, logged in values.items()}
