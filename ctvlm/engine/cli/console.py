"""Terminal output of the tools. The log file is complete; the terminal shows only what users need."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import sys
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

from ctvlm.utils.terminal_text import printable

# Warnings of mmengine 0.10.7 that do not require any action of the user.
_HARMLESS = re.compile(
    "|".join(
        (
            r'"FileClient" will be deprecated',  # used by mmengine's CheckpointHook
            r'"HardDiskBackend" is the alias',
            # Components that only mmengine registers (loops, schedulers, ...).
            r"Failed to search registry with scope",
            r"Dataset .* has no metainfo",
            r"The prefix is not set in metric class",
            r"The dataset metainfo from the resumed checkpoint is different",
            # The loops of ctvlm restore these gradients.
            r"Resumed iteration number is not divisible by",
            # Printed for each frozen weight.
            r"is skipped since its requires_grad=False",
        )
    )
)


def debugging() -> bool:
    """Whether the terminal shows tracebacks and the complete log (CTVLM_DEBUG=1, or --debug of a tool)."""
    return os.environ.get("CTVLM_DEBUG", "") not in ("", "0")


def stdout_console() -> Console:
    """Console on the current standard output. Without a terminal, it is wide enough for a table."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    return console if console.is_terminal else Console(file=sys.stdout, highlight=False, width=160)


class _WarningHandler(logging.Handler):
    """Print warnings and errors to the current ``sys.stderr``, which a live progress bar may have replaced."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:  # the tool reports this error itself
            return
        message = self.format(record)
        if message not in self._printed and not _HARMLESS.search(message):
            self._printed.add(message)
            print(message, file=sys.stderr)


def quiet_logger(logger: logging.Logger) -> None:
    """Print only warnings of mmengine's logger to the terminal; the log file stays complete."""
    if debugging():
        return
    for handler in list(logger.handlers):
        if type(handler) is logging.StreamHandler:
            logger.handlers.remove(handler)
            if handler.level < logging.ERROR:  # mmengine uses ERROR on all ranks except 0
                logger.handlers.append(_WarningHandler())


def quiet_warnings() -> None:
    """Suppress warnings raised inside mmengine and torch that users cannot act on.

    Warnings of ctvlm, for example about a mask of a case, are printed as one line, once per run.
    """
    if debugging():
        return
    _print_own_warnings_once()
    for module in (r"mmengine\.", r"torch\.optim\.lr_scheduler", r"torch\.distributed", r"torch\.nn\.parallel"):
        warnings.filterwarnings("ignore", category=UserWarning, module=module)
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # otherwise each forked data worker prints a warning


def _print_own_warnings_once() -> None:
    default = warnings.showwarning
    package = str(Path(__file__).resolve().parents[2]) + os.sep
    # Shared with the data workers, which are forked in each epoch and would otherwise repeat every warning.
    # One byte per checksum of a message.
    printed = multiprocessing.RawArray("B", 1 << 16)

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        if not str(filename).startswith(package):
            default(message, category, filename, lineno, file, line)
            return
        text = printable(message)
        slot = zlib.crc32(text.encode()) % len(printed)
        if not printed[slot]:
            printed[slot] = 1
            print(f"warning: {text}", file=sys.stderr)

    warnings.showwarning = show
