"""The items that worker processes work on, which can be read after a process has been killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context


class RunningItems:
    """Numbers of the items in work, in memory shared by all processes. Processes receive it when they start."""

    def __init__(self, workers: int) -> None:
        context = get_context("spawn")
        self._started = context.Value("i", 0)
        self._items = context.RawArray("q", [-1] * workers)
        self._place = 0

    def join(self) -> None:
        """Take a place in a new process."""
        with self._started.get_lock():
            self._place = self._started.value % len(self._items)
            self._started.value += 1

    @contextmanager
    def working_on(self, number: int) -> Iterator[None]:
        """Record an item until its work ends. A killed process leaves its item recorded."""
        self._items[self._place] = number
        try:
            yield
        finally:
            self._items[self._place] = -1

    def numbers(self) -> list[int]:
        """The recorded items."""
        return sorted({number for number in self._items if number >= 0})
