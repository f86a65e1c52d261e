"""File functions for local paths and fsspec URLs (``s3://``, ``gs://``, ``memory://`` ...).

Writes are atomic: by a rename for local files, by definition of a put for object stores.
"""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from ctvlm.utils import MissingPackageError, atomic, atomic_write
from ctvlm.volume.ct_volume import CTReadError


def is_url(path: str | Path) -> bool:
    """Whether a path is a URL of another file system; ``file://`` and ``C:\\`` are local."""
    return "://" in str(path) and not str(path).startswith("file://")


def local(path: str | Path) -> Path:
    """Path of a local file or ``file://`` URL."""
    text = str(path)
    return Path(text[len("file://") :].removeprefix("localhost") if text.startswith("file://") else text)


def data_roots() -> list[str]:
    """Folders and URLs of CTVLM_DATA_ROOTS, whose files may be named by manifests and image headers elsewhere."""
    # The colons of URLs, also of chained ones (filecache::s3://bucket), separate nothing.
    separator = rf"(?<!:){os.pathsep}(?!:|//)"
    return [join(folder) for folder in re.split(separator, os.environ.get("CTVLM_DATA_ROOTS", "")) if folder]


def join(root: str | Path, *parts: str) -> str:
    """Join a folder or URL with parts; an absolute path or URL among the parts replaces everything before it.

    ``file://`` URLs become local paths.
    """
    if not is_url(root):
        root = os.path.normpath(local(root).absolute())
    for part in parts:
        if part.startswith("file://"):
            part = str(local(part))
        if is_url(part) or os.path.isabs(part):
            root = part
        elif is_url(root):
            scheme, _, rest = str(root).partition("://")
            # URLs have no working directory: "a/../b" is resolved lexically.
            root = f"{scheme}://{posixpath.normpath(posixpath.join(rest, part))}"
        else:
            root = os.path.normpath(os.path.join(root, part))
    return str(root)


def parent(path: str | Path) -> str:
    """Folder of a file."""
    return str(path).rpartition("/")[0] if is_url(path) else str(local(path).absolute().parent)


def name(path: str | Path) -> str:
    """Last part of a path."""
    return posixpath.basename(str(path)) if is_url(path) else local(path).name


def relative(path: str, root: str) -> str:
    """Path relative to a folder; relative paths and paths of another file system stay unchanged."""
    if is_url(path) or is_url(root):
        return path.removeprefix(f"{root.rstrip('/')}/") if is_url(path) and is_url(root) else path
    return os.path.relpath(path, root) if os.path.isabs(path) else path


def filesystem(url: str | Path) -> tuple[Any, str]:
    """File system of a URL, and the path in it.

    Raises:
        MissingPackageError: the package of the file system is not installed; ValueError: unknown file system.
    """
    try:
        return fsspec.core.url_to_fs(str(url))
    except ImportError as error:
        raise MissingPackageError(f"{url}: {error}") from None


def exists(path: str | Path) -> bool:
    """Whether a file or folder exists."""
    if not is_url(path):
        return os.path.exists(local(path))
    fs, name = filesystem(path)
    return fs.exists(name)


def size(path: str | Path) -> int | None:
    """Bytes of a file; None if it does not exist."""
    if not is_url(path):
        return local(path).stat().st_size if local(path).is_file() else None
    fs, name = filesystem(path)
    try:
        return fs.size(name)  # one request
    except FileNotFoundError:
        return None


def remote_key(path: str) -> str:
    """Text that changes when the file at a URL changes."""
    fs, name = filesystem(path)
    return str(fs.ukey(name))


def read_bytes(path: str | Path) -> bytes:
    """Content of a file; raises FileNotFoundError."""
    if not is_url(path):
        return local(path).read_bytes()
    fs, name = filesystem(path)
    try:
        return fs.cat_file(name)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None


def read_together(paths: Sequence[str]) -> dict[str, bytes]:
    """Content of files at URLs, fetched at the same time if their file system can; raises FileNotFoundError."""
    (fs, first), *others = map(filesystem, paths)
    if not others or not fs.async_impl or "::" in paths[0] or any(other is not fs for other, _ in others):
        return {path: read_bytes(path) for path in paths}
    names, whole = [first, *(name for _, name in others)], [None] * len(paths)
    contents = dict(zip(paths, fs.cat_ranges(names, whole, whole, on_error="return")))
    for path, content in contents.items():
        if isinstance(content, FileNotFoundError):
            raise FileNotFoundError(f"{path}: no such file") from None
        if isinstance(content, BaseException):
            raise content
    return contents


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically, flushed to the disk; missing folders are created."""
    if is_url(path):
        fs, name = filesystem(path)
        fs.makedirs(posixpath.dirname(name), exist_ok=True)
        fs.pipe_file(name, data)
        return
    with atomic_write(local(path), sync=True) as part:
        part.write_bytes(data)


def write_together(folder: str, contents: Mapping[str, bytes], last: str) -> None:
    """Write files of a folder, see ``ctvlm.utils.atomic.write_together``. At a URL they are written one by one."""
    if not is_url(folder):
        atomic.write_together(local(folder), contents, last)
        return
    remove(join(folder, last))
    for name in (*(name for name in contents if name != last), last):
        write_bytes(join(folder, name), contents[name])


def remove(path: str | Path) -> None:
    """Remove a file if it exists."""
    if not is_url(path):
        local(path).unlink(missing_ok=True)
    elif exists(path):
        fs, name = filesystem(path)
        fs.rm_file(name)


def remove_parts(folder: str | Path, seconds: float = 0) -> None:
    """Remove the temporary files of ``atomic_write`` that a killed process left in a local folder.

    Args:
        seconds: keep files that were changed within this time, for folders in which several processes write.
    """
    if is_url(folder) or not local(folder).is_dir():
        return
    for part in local(folder).glob(".part_*"):
        with suppress(FileNotFoundError):  # another process removed it
            if time.time() - part.stat().st_mtime >= seconds:
                part.unlink()


@contextmanager
def as_local_file(path: str | Path) -> Iterator[Path]:
    """Yield the local path, or for a URL a temporary copy, for parsers that need a file.

    A CTReadError inside the context is raised with the URL as its path.

    Raises:
        FileNotFoundError: the URL does not exist.
    """
    if not is_url(path):
        yield local(path)
        return
    data = read_bytes(path)
    with tempfile.TemporaryDirectory(prefix="ctvlm_") as folder:
        copy = Path(folder) / posixpath.basename(str(path))
        with atomic.write_errors(copy):
            copy.write_bytes(data)
        try:
            yield copy
        except CTReadError as error:
            raise CTReadError(str(path), error.found, error.expected, error.action) from error
