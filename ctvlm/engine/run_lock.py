"""One training per work folder."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ctvlm.utils import CTVLMError
from ctvlm.utils.terminal_text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".run_lock"
_held: dict[Path, IO[str] | None] = {}


def _close_inherited() -> None:
    """A forked data worker, which can outlive a killed training for seconds, must not hold its lock."""
    for file in _held.values():
        if file is not None:
            file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


@contextmanager
def run_lock(folder: str | Path) -> Iterator[None]:
    """Hold the lock of a work folder. The system releases it when the process ends, also when it is killed.

    A process can enter it several times. The file and new empty folders are removed at the end. On systems and file
    systems without locks it does nothing.

    Raises:
        CTVLMError: another process trains in this folder; the message names it.
    """
    folder = Path(folder).absolute()
    if fcntl is None or folder in _held:
        yield
        return
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    file = _held[folder] = _locked(folder / LOCK)
    try:
        yield
    finally:
        _held.pop(folder, None)
        if file is not None and not file.closed:
            (folder / LOCK).unlink(missing_ok=True)
            file.close()
        for path in created:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _locked(path: Path) -> IO[str] | None:
    """The locked file; None if the file system has no locks."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = printable(file.read(200).strip()) or "unknown"
            file.close()
            raise CTVLMError(
                f"{path.parent} is in use by another training ({other}). Wait for it or stop it, or choose another "
                "folder with --work-dir"
            ) from error
        except OSError:
            file.close()
            return None
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # the other process has just removed its file
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):  # a full disk; the text is for the message of other processes
        file.truncate()
        os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}, started {started}".encode())
    return file
