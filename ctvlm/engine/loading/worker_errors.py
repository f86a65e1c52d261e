"""Errors of data workers that were killed or load no case any more."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from multiprocessing.queues import Queue
from typing import Any

import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ctvlm.engine.loading.case_fetcher import Loading, fetcher_of, name_cases
from ctvlm.utils import DataWorkerError

# Seconds that a batch may take. Slow storage and large batches take minutes.
TIMEOUT = 1800
_ENDED = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is (killed by signal: [^.]+)|(exited unexpectedly))"
)
_TIMED_OUT = re.compile(r"DataLoader timed out after ([\d.]+) seconds")


def build_loader(loader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
    """``build_dataloader`` of mmengine with other defaults; errors contain the case.

    ``timeout`` is ``TIMEOUT``. If there is a GPU, batches of data workers are pinned: copies to the GPU do not wait.
    """
    if isinstance(loader, dict):
        loader = loader.copy()
        if not loader.get("num_workers"):
            loader["timeout"] = 0  # torch accepts a timeout of workers only
        elif torch.cuda.is_available():
            loader.setdefault("pin_memory", True)
        loader.setdefault("timeout", TIMEOUT)
    return name_cases(Runner.build_dataloader(loader, seed, diff_rank_seed))


def worker_error(error: Exception, loaders: Mapping[str, DataLoader]) -> Exception:
    """A DataWorkerError with the case if a data worker was killed or hangs; otherwise the error itself.

    A worker that hangs is ended.

    Args:
        loaders: data loaders by their key in the config.
    """
    texts = [str(one) for one in _chain(error) if isinstance(one, RuntimeError)]
    for text in texts:
        if found := _TIMED_OUT.search(text):
            return _hanging(found[1], loaders)
    # The last one of the chain is the first that was raised; it names the signal.
    for text in reversed(texts):
        if found := _ENDED.match(text):
            return _ended([int(pid) for pid in found[1].split(",")], found[2] or found[3], loaders)
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _hanging(seconds: str, loaders: Mapping[str, DataLoader]) -> Exception:
    limit, alive = float(seconds), {child.pid for child in multiprocessing.active_children()}
    for key, loader in loaders.items():
        busy = sorted((s for s in _loading(loader) if s.case and s.pid in alive), key=lambda s: -s.seconds)
        if loader.timeout != limit or not busy:
            continue
        _kill([state.pid for state in busy])
        workers = "; ".join(f"data worker {s.worker} has been loading {s.case} for {s.seconds} s" for s in busy)
        return DataWorkerError(
            f"{key}: no batch within {limit:g} s: {workers}. Check these files and their storage; {key}.timeout is the "
            "time in seconds that a batch may take"
        )
    return DataWorkerError(f"a data loader gave no batch within {limit:g} s (the option timeout of the data loader)")


def _ended(pids: list[int], how: str, loaders: Mapping[str, DataLoader]) -> Exception:
    for key, loader in loaders.items():
        for state in _loading(loader):
            if state.pid not in pids:
                continue
            doing = f"while it was loading {state.case}" if state.case else "between two batches"
            what = f"{key}: data worker {state.worker} (process {state.pid}) {_how(how)} {doing}"
            return DataWorkerError(f"{what}. {_advice(how, key, loader.num_workers)}")
    return DataWorkerError(f"data worker (process {pids[0]}) {_how(how)}. {_advice(how, 'train_dataloader', 0)}")


def _how(how: str) -> str:
    return f"was {how}" if how.startswith("killed") else how


def _advice(how: str, key: str, workers: int) -> str:
    if how.endswith("Killed"):
        now = f" (now {workers})" if workers else ""
        return (
            f"Usually memory ran out: lower {key}.num_workers{now} or {key}.batch_size, set {key}.dataset.cache=False, "
            "or request more memory"
        )
    if how.endswith("Bus error"):
        return f"Usually shared memory (/dev/shm) ran out: enlarge it, or lower {key}.num_workers or {key}.batch_size"
    return f"{key}.num_workers=0 loads in the main process and may show the cause"


def _loading(loader: DataLoader) -> list[Loading]:
    fetcher = fetcher_of(loader)
    return fetcher.loading() if fetcher and loader.num_workers else []


def _kill(pids: list[int]) -> None:
    """End workers that do not react to SIGTERM, for which the interpreter would wait at its end."""
    workers = [child for child in multiprocessing.active_children() if child.pid in pids]
    masked = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    # The handler of torch raises an error for an ended worker.
    handler: Any = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if masked else None
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(5)
    if masked:
        signal.signal(signal.SIGCHLD, handler)


def end_if_a_batch_is_lost() -> None:
    """Let this data worker end with a message if it cannot send a batch, for which the main process would wait."""
    Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]


def _end(error: Exception, batch: Any) -> None:
    print(f"a data worker cannot send its batch ({type(error).__name__}: {error})", file=sys.stderr, flush=True)
    os._exit(1)
