"""Run a function on many cases: in this process, in several processes, on a Dask cluster, or one shard of them."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from typing import Any, TypeVar

from ctvlm.utils.errors import CTVLMError
from ctvlm.utils.running_items import RunningItems
from ctvlm.utils.stop_signals import blocked
from ctvlm.utils.terminal_text import printable

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerKilledError(CTVLMError):
    """A worker process ended without a result, usually because memory ran out."""


def parse_shard(text: str) -> tuple[int, int]:
    """(I, N) of the text ``I/N``.

    Raises:
        ValueError: not two numbers, or I is not from 0 to N-1.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(f"shard: found {text!r}; expected I/N with I from 0 to N-1 (sbatch --array 0-{{N-1}})")
    return int(match[1]), int(match[2])


def shard_of(items: Sequence[Item], shard: tuple[int, int] | None) -> list[Item]:
    """Every N-th item from item I of a shard (I, N), for job arrays; all items for None."""
    return list(items[shard[0] :: shard[1]] if shard else items)


def run_parallel(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int = 1,
    scheduler: str | None = None,
    name: Callable[[Item], str] = str,
) -> Iterator[tuple[int, Result | WorkerKilledError]]:
    """Yield (index of the item, result) in order of completion.

    Args:
        work: called on each item; a module-level function or a partial of one if it runs in other processes.
        workers: processes on this machine; 1 runs in this process.
        scheduler: address of a Dask scheduler, which replaces ``workers``. If a worker is killed repeatedly by the
            same item, its result is a WorkerKilledError and the other items continue.
        name: text for an item in errors.

    Raises:
        WorkerKilledError: a process of this machine was killed; with the item that it worked on.
        CTVLMError: Dask is not installed, or the scheduler cannot be reached.
    """
    if scheduler:
        yield from _on_dask(work, items, scheduler)
    elif min(workers, len(items)) <= 1:
        for index, item in enumerate(items):
            yield index, work(item)
    else:
        yield from _in_processes(work, items, min(workers, len(items)), name)


def _in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, name: Callable[[Item], str]
) -> Iterator[tuple[int, Result]]:
    """At most four items per process are queued, which bounds memory."""
    # One thread per process. Spawn instead of fork, because threads (torch, progress bar) do not survive a fork.
    running = RunningItems(workers)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=(running,))
    pending: dict[Future, int] = {}
    others = set(active_children())
    try:
        for index, item in enumerate(items):
            with blocked(signal.SIGINT):  # the workers, which are started here, do not receive Ctrl-C
                pending[pool.submit(_run, work, item, index)] = index
            while len(pending) >= 4 * workers or (pending and index == len(items) - 1):
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
    except BrokenProcessPool:
        pool.shutdown(wait=True, cancel_futures=True)  # the other processes end, and record nothing any more
        names = [printable(name(items[number])) for number in running.numbers()]
        during = f" while it worked on {' or '.join(names)}" if names else ""
        raise WorkerKilledError(
            f"A worker process was killed{during}, usually because memory ran out. Run the same command with fewer "
            "workers to resume."
        ) from None
    except (GeneratorExit, KeyboardInterrupt):
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_RUNNING: RunningItems  # of this worker process


def _start_worker(running: RunningItems) -> None:
    global _RUNNING  # a process pool passes arguments to its processes in this way
    _RUNNING = running
    running.join()
    import torch  # here, because parse_shard is used by command lines, which must start at once

    torch.set_num_threads(1)
    # SystemExit removes unfinished files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has been killed; it would wait for work forever."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(128 + signal.SIGTERM)


def _run(work: Callable[[Item], Result], item: Item, number: int) -> Result:
    try:
        with _RUNNING.working_on(number):
            return work(item)
    except SystemExit as error:  # otherwise the pool would go on with the next item
        os._exit(error.code if isinstance(error.code, int) else 1)


def _on_dask(
    work: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Iterator[tuple[int, Result | WorkerKilledError]]:
    """Tasks of a lost worker are run again by others."""
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise CTVLMError("a scheduler needs Dask: pip install 'ctvlm[dask]'") from None
    try:
        client = Client(address, timeout=30)
    except (OSError, ValueError) as error:
        raise CTVLMError(f"scheduler: cannot reach {address} ({error})") from None
    with client:
        # Not pure, because the result depends on files.
        index_of: dict[Any, int] = {client.submit(work, item, pure=False, retries=1): i for i, item in enumerate(items)}
        for future in as_completed(list(index_of)):
            if isinstance(future.exception(), KilledWorker):
                yield index_of[future], WorkerKilledError("worker killed, usually because memory ran out; run again")
            else:
                yield index_of[future], future.result()
            future.release()
