"""Atomic file writes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path, sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to ``path`` when the block ends.

    A reader sees the old file or the complete new one. If the block raises, the temporary file is removed and the old
    file stays. The temporary name is unique, so that several writers of one path do not collide, and keeps the suffix,
    because some writers choose the format by it. Missing folders are created. An existing file keeps its mode.

    Args:
        sync: flush the file to the disk before the rename, so that it survives a power failure.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The end of the name is enough for the suffix; a whole name could exceed the limit of the file system.
    part = path.with_name(f".part_{secrets.token_hex(8)}_{path.name[-40:]}")
    try:
        yield part
        if sync:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        if path.is_file():
            part.chmod(path.stat().st_mode & 0o7777)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
