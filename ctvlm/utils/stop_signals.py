"""Signals that ask a process to end: Ctrl-C (SIGINT), SIGTERM, SIGHUP and SIGUSR1."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# SIGUSR1 is what `sbatch --signal=USR1@120` sends before the time limit. Windows has only the first two.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)
# The terminal and a launcher can deliver one request twice.
REPEAT_S = 1.0

_installed = False
_deferring = False
_first: tuple[int, float] | None = None


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        number: of the signal.
        exit_code: 128 + number, as shells report it.
        agreed: whether all processes of a distributed run raise it at the same point.
    """

    def __init__(self, number: int, message: str = "", agreed: bool = False) -> None:
        super().__init__(message or f"interrupted by {signal.Signals(number).name}")
        self.number, self.agreed = number, agreed
        self.exit_code = 128 + number


def exit_code_of(error: KeyboardInterrupt) -> int:
    """Exit code of a process that ends with this exception."""
    return error.exit_code if isinstance(error, Interrupted) else 128 + signal.SIGINT


@contextmanager
def handle_stop_signals() -> Iterator[None]:
    """Raise ``Interrupted`` for the first signal in the block; a second one ends the process at once.

    Signals that are ignored, as with ``nohup``, stay ignored. Outside of the main thread and within another such block
    it does nothing.
    """
    global _installed, _first
    if _installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    _installed, _first = True, None
    try:
        for number, handler in previous.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, _handle)
        yield
    finally:
        for number, handler in previous.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, handler)
        _installed, _first = False, None


@contextmanager
def defer_stop_signals() -> Iterator[None]:
    """In this block, the first signal does not raise; the block reads it with ``stop_requested``."""
    global _deferring
    _deferring = True
    try:
        yield
    finally:
        _deferring = False


def stop_requested() -> int:
    """Number of the first signal in a block of ``handle_stop_signals``; 0 without one."""
    return 0 if _first is None else _first[0]


@contextmanager
def blocked(number: int) -> Iterator[None]:
    """Processes that start in this block never receive the signal; this process receives it after the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker  # not on Windows

    resource_tracker.ensure_running()  # starting it later would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def show_cursor() -> None:
    """Show the cursor of the terminal, which a live display hides."""
    for stream in (1, 2):
        if os.isatty(stream):
            os.write(stream, b"\x1b[?25h")


def _handle(number: int, frame: FrameType | None) -> None:
    global _first
    if _first is not None:
        if time.monotonic() - _first[1] >= REPEAT_S:
            show_cursor()
            os._exit(128 + _first[0])
        return
    _first = (number, time.monotonic())
    if not _deferring:
        raise Interrupted(number)
    show_cursor()  # a second signal leaves no time for it
    if os.environ.get("RANK", "0") == "0":
        name = signal.Signals(number).name
        # print() could fail: the signal may have interrupted another one.
        os.write(2, f"\n{name}: ending after this step; a second signal ends the run without saving\n".encode())
