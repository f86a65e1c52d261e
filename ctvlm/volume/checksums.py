"""Checksums of stored arrays: each file is compared with its ``case.json`` once per run."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
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


def verify_stored(path: str | Path) -> None:
    """Compare a stored array in a local file with the checksum in the ``case.json`` next to it, if there is one.

    A file that was verified in this run and has the same size and time of change is not read again.

    Raises:
        CTReadError: the file was changed or damaged, or its record is.
    """
    if _skipped.get():
        return
    status = files.local(path).stat()
    slot = _Slot((str(path), status.st_size, status.st_mtime_ns))
    if not slot.is_verified():
        record = files.join(files.parent(path), RECORD)
        _check(path, sha256_of(files.local(path)), _recorded(path, record, _content(record)))
        slot.set_verified()


def verify_contents(contents: Mapping[str, bytes]) -> None:
    """The same for the contents of files at URLs, which are compared each time.

    The record is read once in a run, and for all arrays of a case together.

    Args:
        contents: URL to content.

    Raises:
        CTReadError: see ``verify_stored``.
    """
    if _skipped.get():
        return
    records: dict[str, bytes | None] = {}
    for path, data in contents.items():
        found = hashlib.sha256(data).hexdigest()
        slot = _Slot((path, found))
        if not slot.is_verified():
            record = files.join(files.parent(path), RECORD)
            if record not in records:
                records[record] = _content(record)
            _check(path, found, _recorded(path, record, records[record]))
            slot.set_verified()


class _Slot:
    """Place of a state of a file among those that were verified in this run."""

    def __init__(self, state: tuple) -> None:
        self.key = hashlib.blake2b(repr(state).encode(errors="surrogateescape"), digest_size=_DIGEST).digest()
        start = int.from_bytes(self.key[:8], "little") % _SLOTS * _DIGEST
        self.place = slice(start, start + _DIGEST)

    def is_verified(self) -> bool:
        return _verified[self.place] == self.key

    def set_verified(self) -> None:
        _verified[self.place] = self.key


def _check(path: str | Path, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise CTReadError(path, f"sha256 {found[:12]}…", f"{expected[:12]}… as recorded in {RECORD}", _AGAIN)


def _content(record: str) -> bytes | None:
    try:
        return files.read_bytes(record)
    except FileNotFoundError:
        return None


def _recorded(path: str | Path, record: str, content: bytes | None) -> str | None:
    """Checksum of a file in the content of its record; None without a record."""
    if content is None:
        return None
    try:
        arrays = json.loads(content)["arrays"].values()
        found = [entry["sha256"] for entry in arrays if entry["file"] == files.name(path)]
        if len(found) != 1 or not isinstance(found[0], str):
            raise ValueError(f"{files.name(path)} is not in it")
        return found[0]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found_text = f"a record that cannot be read ({type(error).__name__}: {error})"
        raise CTReadError(record, found_text, "checksums of the stored files", _AGAIN) from error
