"""File writes that leave either the old or the complete new content."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ctvlm.utils.errors import CTVLMError

# Errors of writers that are not written in Python: safetensors (with the number of the system), torch.save.
_SYSTEM_ERROR = re.compile(r"os error (\d+)")
_TORCH_ERROR = "PytorchStreamWriter"


class WriteError(CTVLMError, OSError):
    """A file cannot be written, for example because the disk is full. The message states the file and the cause."""

    path: Path | None = None


def write_error(path: str | Path, error: OSError) -> WriteError:
    """The WriteError of a path, with the cause and ``errno`` of an error of the system."""
    cause = error.strerror or str(error) or type(error).__name__
    place = error.filename
    where = f" ({place})" if isinstance(place, (str, Path)) and Path(place) in Path(path).absolute().parents else ""
    found = WriteError(f"cannot write {path}: {cause}{where}")
    found.errno, found.path = error.errno, Path(path)
    return found


@contextmanager
def atomic_write(path: str | Path, sync: bool = False) -> Iterator[Path]:
    """Yield an empty temporary file in the same folder, and rename it to ``path`` when the block ends.

    A reader sees the old file or the complete new one. If the block raises, the temporary file is removed and the old
    file stays. The temporary file is created exclusively: an existing file or link of its name is not followed. Its
    name is unique, so that several writers of one path do not collide, and keeps the suffix, because some writers
    choose the format by it. Missing folders are created. An existing file keeps its mode.

    Args:
        sync: flush the file and its folder to the disk, so that it survives a power failure.

    Raises:
        WriteError: the file cannot be written (full or read-only disk, missing permission).
    """
    path = Path(path)
    # The end of the name is enough for the suffix; a whole name could exceed the limit of the file system.
    part = path.with_name(f".part_{secrets.token_hex(8)}_{path.name[-40:]}")
    created = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        created = True
        yield part
        if sync:
            _flush(part, os.O_RDWR)
        if path.is_file():
            part.chmod(path.stat().st_mode & 0o7777)
        os.replace(part, path)
        if sync and os.name == "posix":
            with suppress(OSError):  # some network file systems cannot flush folders; the file is complete
                _flush(path.parent, os.O_RDONLY)
    except Exception as error:
        if (cause := _cause(error, path, part)) is None:
            raise
        raise write_error(path, cause) from error
    finally:
        if created:
            with suppress(OSError):  # the folder was removed, or its disk has become read-only
                part.unlink(missing_ok=True)


def write_together(folder: str | Path, contents: Mapping[str, bytes], last: str) -> None:
    """Write files of a folder: all of them are replaced, or none if one cannot be written.

    Args:
        contents: content by name.
        last: name of the file that marks a complete folder: it is removed first, and appears after the others.

    Raises:
        WriteError: as ``atomic_write``.
    """
    with ExitStack() as stack:
        # The contexts end, and rename their files, in the opposite order.
        for name in (last, *(name for name in contents if name != last)):
            stack.enter_context(atomic_write(Path(folder) / name, sync=True)).write_bytes(contents[name])
        (Path(folder) / last).unlink(missing_ok=True)


@contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Raise errors of the system in this block as WriteErrors of a path, for writers of several files."""
    try:
        yield
    except Exception as error:
        if (cause := _cause(error, Path(path), Path(path))) is None:
            raise
        raise write_error(path, cause) from error


def append_text(path: str | Path, text: str) -> None:
    """Append to a file: the text is written completely or not at all. The file has one writer.

    Raises:
        WriteError: as ``atomic_write``.
    """
    try:
        with open(path, "ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            data = text.encode()
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise write_error(path, error) from error


def _cause(error: Exception, path: Path, part: Path) -> OSError | None:
    """The error of the system that ended a write; None for errors of other files and other kinds."""
    if isinstance(error, WriteError):  # of this path if its part is written atomically, too
        return error.__cause__ if error.path == part and isinstance(error.__cause__, OSError) else None
    if isinstance(error, OSError):
        named = error.filename
        own = (path, part, *path.parents)
        return error if not isinstance(named, (str, Path)) or Path(named) in own else None
    if number := _SYSTEM_ERROR.search(str(error)):
        return OSError(int(number[1]), os.strerror(int(number[1])))
    return OSError(str(error).split("\n")[0]) if _TORCH_ERROR in str(error) else None


def _flush(path: Path, mode: int) -> None:
    file = os.open(path, mode)
    try:
        os.fsync(file)
    finally:
        os.close(file)
