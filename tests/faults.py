"""Faults of files for tests: full disks, short writes, failed renames, and changed bits."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond ``size`` bytes: the system writes a part, then raises EFBIG.

    Unlike a replaced function, this also affects writers that are not written in Python (torch, safetensors, SQLite).
    """
    assert resource is not None
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


class FailingCalls:
    """Makes functions of ``os`` raise for the files below a folder.

    Args:
        names: of the functions: ``open`` (of new files), ``replace``, ``fsync``, ``mkdir``.
        code: number of the error, such as ``errno.ENOSPC``.
        suffix: only for final names that end so.
    """

    def __init__(self, monkeypatch, folder: Path, names=("replace",), code: int = errno.ENOSPC, suffix: str = ""):
        self.calls = 0
        for name in names:
            monkeypatch.setattr(os, name, self._wrap(getattr(os, name), Path(folder).absolute(), code, suffix))

    def _wrap(self, call, folder: Path, code: int, suffix: str):
        def fail(target, *args, **kwargs):
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
            below = Path(path).absolute().is_relative_to(folder) and str(path).endswith(suffix)
            reads = call.__name__ == "open" and not args[0] & os.O_CREAT
            if below and not reads:
                self.calls += 1
                raise OSError(code, os.strerror(code), path)
            return call(target, *args, **kwargs)

        return fail


def flip_bit(path: Path, position: float, bit: int = 3) -> None:
    """Change one bit at a relative position (0 to 1) of a file."""
    data = bytearray(path.read_bytes())
    data[min(int(position * len(data)), len(data) - 1)] ^= 1 << bit
    path.write_bytes(data)


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
