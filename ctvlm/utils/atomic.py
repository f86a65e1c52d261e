"""Atomic file writes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path, sync: bool = False) -> Iterator[Path]:
    """Yield an empty temporary file in the same folder, and rename it to ``path`` when the block ends.

    A reader sees the old file or the complete new one. If the block raises, the temporary file is removed and the old
    file stays. The temporary file is created exclusively: an existing file or link of its name is not followed. Its
    name is unique, so that several writers of one path do not collide, and keeps the suffix, because some writers
    choose the format by it. Missing folders are created. An existing file keeps its mode.

    Args:
        sync: flush the file and its folder to the disk, so that it survives a power failure.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The end of the name is enough for the suffix; a whole name could exceed the limit of the file system.
    part = path.with_name(f".part_{secrets.token_hex(8)}_{path.name[-40:]}")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        if sync:
            _flush(part, os.O_RDWR)
        if path.is_file():
            part.chmod(path.stat().st_mode & 0o7777)
        os.replace(part, path)
        if sync and os.name == "posix":
            with suppress(OSError):  # some network file systems cannot flush folders; the file is complete
                _flush(path.parent, os.O_RDONLY)
    finally:
        part.unlink(missing_ok=True)


def _flush(path: Path, mode: int) -> None:
    file = os.open(path, mode)
    try:
        os.fsync(file)
    finally:
        os.close(file)
