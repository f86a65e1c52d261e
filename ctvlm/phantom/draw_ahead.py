"""Processes that draw cases before they are read."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from mmengine.logging import print_log

from ctvlm.phantom.packed import Job, PackedCase
from ctvlm.utils.parent_watch import PARENT, watch_parent

# Drawn cases that wait until they are read: this many, or fewer large ones (bytes, at 2.3 per voxel).
MAX_CASES, MAX_BYTES = 32, 2**28
# Fewer calls take less time than the start of a process.
MIN_CALLS = 512
# The main script has no __main__ guard, the system cannot start processes, or one was killed.
POOL_ERRORS = (BrokenProcessPool, CancelledError, RuntimeError)

Result = TypeVar("Result")


def in_worker() -> bool:
    """Whether this process is a worker of a data loader, which cannot start processes."""
    return multiprocessing.current_process().daemon


def start_pool(num_workers: int) -> ProcessPoolExecutor:
    """Processes that can draw. They end with this process, also if it is killed."""
    return ProcessPoolExecutor(
        num_workers,
        # Spawn, not fork: this process has threads (torch, the progress bar).
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(os.getpid(),),
    )


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    os.environ[PARENT] = str(parent)
    watch_parent()


def report_no_pool(error: BaseException) -> None:
    """Tell that this process draws because of an error of ``POOL_ERRORS``."""
    print_log(f"PhantomCT draws in one process, because workers could not start: {error}", "current")


class DrawAhead:
    """Draws cases in processes in the order in which they will be read.

    A limited number of cases waits until it is taken. A case that was not expected is drawn in this process.

    Args:
        num_workers: number of processes; 0 draws all cases in this process, when they are taken.
        shape: voxels (D, H, W) of a case.

    Attributes:
        size: number of cases that are drawn before they are taken.
        used: whether the order of the cases has been given.
    """

    def __init__(self, num_workers: int, shape: Sequence[int]) -> None:
        self.num_workers, self.shape = num_workers, tuple(shape)
        fitting = int(MAX_BYTES / (2.3 * math.prod(shape)))
        self.size = min(MAX_CASES, max(num_workers, fitting)) if num_workers else 0
        self.used = False
        self._order: dict[Job, None] = {}
        self._drawing: dict[Job, Future[PackedCase]] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._failed = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and other processes have no pool.
        return DrawAhead, (self.num_workers, self.shape)

    def expect(self, jobs: Iterable[Job]) -> None:
        """Draw these cases next, after those expected earlier."""
        self.used = True
        if not self.num_workers:
            return
        self._order.update(dict.fromkeys(job for job in jobs if job not in self._drawing))
        self._fill()

    def take(self, job: Job) -> PackedCase:
        """The drawn case."""
        drawing = self._drawing.pop(job, None)
        self._order.pop(job, None)
        self._fill()
        if drawing is not None:
            try:
                return drawing.result()
            except POOL_ERRORS as error:
                self._give_up(error)
        return PackedCase.draw(job)

    def map(self, function: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
        """Apply a function of a module in the processes, which then wait for cases; few calls run in this process."""
        calls = len(arguments[0])
        if calls >= MIN_CALLS and self.num_workers and not self._failed and not in_worker():
            try:
                self._pool = self._pool or start_pool(self.num_workers)
                return list(self._pool.map(function, *arguments, chunksize=math.ceil(calls / (4 * self.num_workers))))
            except POOL_ERRORS as error:
                self._give_up(error)
        return list(map(function, *arguments))

    def forget(self) -> None:
        """Expect no more cases."""
        self._order.clear()
        for drawing in self._drawing.values():
            drawing.cancel()
        self._drawing.clear()

    def close(self) -> None:
        """End the processes. Expecting further cases starts them again."""
        self.forget()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None

    def _fill(self) -> None:
        if self._failed:
            return
        try:
            while self._order and len(self._drawing) < self.size:
                if self._pool is None:
                    self._pool = start_pool(self.num_workers)
                job = next(iter(self._order))
                self._drawing[job] = self._pool.submit(PackedCase.draw, job)
                del self._order[job]
        except POOL_ERRORS as error:
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        if not self._failed:
            report_no_pool(error)
        self._failed = True
        self.close()
