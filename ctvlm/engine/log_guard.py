"""Keep a run alive whose log files cannot be written."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from mmengine.visualization.vis_backend import BaseVisBackend

from ctvlm.utils.terminal_text import printable

# Methods of a backend that write.
_METHODS = ("add_config", "add_graph", "add_image", "add_scalar", "add_scalars", "add_text", "close")


class LogGuard:
    """Turns the errors of log files into one warning per cause (such as a full disk) and run.

    Later entries are tried again, so that the log continues when the disk has space.
    """

    def __init__(self) -> None:
        self._causes: set[str] = set()

    def watch_logger(self, logger: logging.Logger) -> None:
        """Guard the log files of a logger; ``logging`` would print a traceback for each record."""
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = functools.partial(self._handle, handler)  # type: ignore[method-assign]
                # A file of a removed folder cannot be opened again.
                handler.emit = self.guarded(handler.emit, handler.baseFilename)  # type: ignore[method-assign]

    def watch_backend(self, backend: BaseVisBackend) -> None:
        """Guard the methods of a backend of the visualizer."""
        for name in _METHODS:
            if hasattr(backend, name):
                setattr(backend, name, self.guarded(getattr(backend, name), type(backend).__name__))

    def guarded(self, write: Callable, name: str) -> Callable:
        """A function that does nothing if its file cannot be written."""

        @functools.wraps(write)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return write(*args, **kwargs)
            except OSError as error:
                self.report(error, name)
                return None

        return call

    def report(self, error: OSError, name: str) -> None:
        """Print the warning of a cause once."""
        cause = error.strerror or str(error)
        key = str(error.errno or cause)
        if key not in self._causes:
            self._causes.add(key)
            place = error.filename or name
            text = str(error) if error.strerror is None else f"cannot write {place}: {cause}"
            print(f"WARNING: {printable(text)}; the run continues, and its logs are incomplete", file=sys.stderr)

    def _handle(self, handler: logging.FileHandler, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.report(error, handler.baseFilename)
        else:
            logging.Handler.handleError(handler, record)
