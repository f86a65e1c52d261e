"""What a person sees while a tool runs. The log file holds everything; the terminal what matters."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import sys
import warnings
import zlib
from pathlib import Path

from rich.console import Console

# What mmengine 0.10.7 says of any run, or of what the config asks for: nothing the user could act on.
_HARMLESS = re.compile(
    "|".join(
        (
            r'"FileClient" will be deprecated',  # mmengine's own CheckpointHook uses it
            r'"HardDiskBackend" is the alias',
            # Names that only mmengine defines (loops, schedulers, ...) are found in its own registries.
            r"Failed to search registry with scope",
            r"Dataset .* has no metainfo",
            r"The prefix is not set in metric class",
            r"The dataset metainfo from the resumed checkpoint is different",
            # Each weight of a part that the config freezes.
            r"is skipped since its requires_grad=False",
        )
    )
)


def debugging() -> bool:
    """Whether tracebacks and the whole log are wanted on the terminal (CTVLM_DEBUG=1, or a tool's --debug)."""
    return os.environ.get("CTVLM_DEBUG", "") not in ("", "0")


def stdout_console() -> Console:
    """Console on the standard output as it is now; wide enough for a table where there is no terminal."""
    console = Console(file=sys.stdout, highlight=False)
    return console if console.is_terminal else Console(file=sys.stdout, highlight=False, width=160)


class _WarningHandler(logging.Handler):
    """Warnings and errors to the standard error as it is now: a live progress bar puts itself in its place."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:  # the log file's copy of an error that the tool itself reports
            return
        message = self.format(record)
        if message not in self._seen and not _HARMLESS.search(message):
            self._seen.add(message)
            print(message, file=sys.stderr)


def quiet_logger(logger: logging.Logger) -> None:
    """Let only warnings of mmengine's logger reach the terminal; leave its log file alone."""
    if debugging():
        return
    for handler in list(logger.handlers):
        if type(handler) is logging.StreamHandler:
            logger.handlers.remove(handler)
            if handler.level < logging.ERROR:  # ERROR: mmengine's choice for every rank but 0
                logger.handlers.append(_WarningHandler())


def quiet_warnings() -> None:
    """Silence Python warnings from inside mmengine and torch that say nothing about the user's work.

    Warnings of ctvlm, such as those about a case's masks, become one line each, once in a run.
    """
    if debugging():
        return
    _show_ours_once()
    for module in (r"mmengine\.", r"torch\.optim\.lr_scheduler", r"torch\.distributed", r"torch\.nn\.parallel"):
        warnings.filterwarnings("ignore", category=UserWarning, module=module)
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else each forked data worker warns


def _show_ours_once() -> None:
    others = warnings.showwarning
    package = str(Path(__file__).resolve().parents[2]) + os.sep
    # Shared with the data workers that are forked from here, and start anew in each epoch: with a set of their own they
    # would repeat every warning. One byte per checksum of a message.
    seen = multiprocessing.RawArray("B", 1 << 16)

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        if not str(filename).startswith(package):
            others(message, category, filename, lineno, file, line)
            return
        slot = zlib.crc32(str(message).encode()) % len(seen)
        if not seen[slot]:
            seen[slot] = 1
            print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show
