"""State of the source files of a case, by which ``tools/preprocess.py`` notices a replaced file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ctvlm.datasets.verify import files_of
from ctvlm.utils import MissingPackageError
from ctvlm.volume import files
from ctvlm.volume.checksums import sha256_of
from ctvlm.volume.detached import linked_files

State = dict[str, dict[str, str | int | None]]


def source_state(case: dict, content: bool = False) -> State:
    """Size and time of change of each file of a case, with ``content`` also its SHA-256.

    Includes the slices of a DICOM folder and detached data. Files at a URL have the properties that their file system
    gives (``ukey`` of fsspec). A missing or unreadable file has no properties.
    """
    state: State = {}
    for path in files_of(case):
        if files.is_url(path):
            state[path] = _remote(path, content)
            continue
        name = files.local(path)
        state |= {str(member): _local(member, content) for member in _members(name)}
    return state


def _members(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir()) if path.is_dir() else [path, *(linked_files(path) if path.is_file() else ())]
    except (OSError, ValueError):  # the reader names the file
        return [path]


def _local(path: Path, content: bool) -> dict[str, str | int | None]:
    try:
        status = path.stat()
        found: dict[str, str | int | None] = dict(bytes=status.st_size, changed=status.st_mtime_ns)
        if content and path.is_file():
            found["sha256"] = sha256_of(path)
        return found
    except (OSError, ValueError):
        return {}  # the reader names the file


def _remote(path: str, content: bool) -> dict[str, str | int | None]:
    try:
        if not files.exists(path):
            return {}
        found: dict[str, str | int | None] = dict(changed=files.remote_key(path))
        if content:
            found["sha256"] = hashlib.sha256(files.read_bytes(path)).hexdigest()
        return found
    except MissingPackageError:
        raise
    except Exception:  # file systems raise many types
        return {}  # the reader names the file


def is_unchanged(recorded: State, current: State, content: bool = False) -> bool:
    """Whether the files of a case are those of a record: by size and time, or by ``content`` whatever their time."""
    ignored = "changed" if content else "sha256"

    def compared(state: State) -> State:
        return {name: {k: v for k, v in entry.items() if k != ignored} for name, entry in state.items()}

    if content and not all("sha256" in entry for entry in recorded.values()):
        return False
    return compared(recorded) == compared(current)
