"""Checksums of stored arrays: each file is compared with its ``case.json`` once per run."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ctvlm.volume import files
from ctvlm.volume.ct_volume import CTReadError

RECORD = "case.json"
_AGAIN = "delete the folder of the case and run tools/preprocess.py again"
_CHUNK = 1 << 20
_DIGEST = 16
_SLOTS = 1 << 18
# Digests of verified files. Data workers that are forked share this memory, so that a file is read in full once per
# run instead of once per worker and epoch. Two files with the same slot replace each other, and are verified again.
_verified = mmap.mmap(-1, _SLOTS * _DIGEST)


_skipped: ContextVar[bool] = ContextVar("checksums_skipped", default=False)


@contextmanager
def without_checksums(skip: bool = True) -> Iterator[None]:
    """Context in which stored files are not compared with their checksums."""
    token = _skipped.set(skip)
    try:
        yield
    finally:
        _skipped.reset(token)


def sha256_of(path: Path) -> str:
    """SHA-256 of a local file in hexadecimal, read in parts."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def record_checksum(record: dict) -> str:
    """SHA-256 of a record as JSON, without its own ``checksum``."""
    content = {key: value for key, value in record.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def verify_stored(path: str | Path, data: bytes | None = None) -> None:
    """Compare a stored array with the checksum in the ``case.json`` next to it, if there is one.

    A file that was verified in this run and has the same size and time of change is not read again. Content of a URL is
    compared each time it was read; only the record is not read again.

    Args:
        data: content of a file at a URL.

    Raises:
        CTReadError: the file was changed or damaged, or its record is.
    """
    if _skipped.get():
        return
    if data is None:
        status = files.local(path).stat()
        state: tuple = (status.st_size, status.st_mtime_ns)
    else:
        state = (hashlib.sha256(data).hexdigest(),)
    key = hashlib.blake2b(repr((str(path), *state)).encode(errors="surrogateescape"), digest_size=_DIGEST).digest()
    start = int.from_bytes(key[:8], "little") % _SLOTS * _DIGEST
    if _verified[start : start + _DIGEST] == key:
        return
    expected = _recorded(path)
    if expected is not None:
        found = sha256_of(files.local(path)) if data is None else state[0]
        if found != expected:
            raise CTReadError(path, f"sha256 {found[:12]}…", f"{expected[:12]}… as recorded in {RECORD}", _AGAIN)
    _verified[start : start + _DIGEST] = key


def _recorded(path: str | Path) -> str | None:
    """Checksum of a file in its record; None without a record."""
    record = files.join(files.parent(path), RECORD)
    try:
        arrays = json.loads(files.read_bytes(record))["arrays"].values()
        found = [entry["sha256"] for entry in arrays if entry["file"] == files.name(path)]
        if len(found) != 1 or not isinstance(found[0], str):
            raise ValueError(f"{files.name(path)} is not in it")
        return found[0]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found_text = f"a record that cannot be read ({type(error).__name__}: {error})"
        raise CTReadError(record, found_text, "checksums of the stored files", _AGAIN) from error
