"""A cache in memory that the data workers of a process share."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import warnings
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch

from ctvlm.utils.memory import available_memory, total_memory

# This fraction of the memory stays available.
RESERVE = 0.2
# The file: number of values, end of the last one, whether it is full; then the places of the values (8 bytes each).
_COUNT, _END, _FULL, _PLACES, _DATA = 0, 8, 16, 64, 2**40
# Smaller arrays are not compressed.
_SMALL = 2**12


class CacheFullWarning(UserWarning):
    """Memory for further values is missing."""


class SharedCache:
    """Values by index. Each value is stored once, and forked or spawned processes read what any of them stored.

    The values are pickled into a file without a name that exists in memory only (``memfd_create``): it needs no space
    of ``/dev/shm``, takes one file descriptor, and disappears with the last process, also if that is killed. Label
    maps (uint8) are compressed. ``get`` returns a new copy: changes do not reach the cache. Without ``memfd_create``
    (not Linux), each process has its own values.

    A value is kept if ``RESERVE`` of the memory stays available with it. Otherwise there is one warning.

    A copy of the cache is empty.

    Args:
        name: what the values belong to, for the warning.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._local: dict[int, bytes] = {}
        self._file: int | None = None
        if hasattr(os, "memfd_create"):
            self._open(os.memfd_create("ctvlm_cache"))

    def __len__(self) -> int:
        return len(self._local) if self._file is None else self._number(_COUNT)

    def __contains__(self, index: int) -> bool:
        return index in self._local if self._file is None else self._place(index) > 0

    def get(self, index: int) -> Any:
        """A copy of the value; None if it is not stored."""
        if self._file is None:
            return _load(self._local[index]) if index in self._local else None
        place = self._place(index)
        if not place:
            return None
        content = memoryview(bytearray(self._number(place)))
        done = 0
        while done < len(content):
            done += os.preadv(self._file, [content[done:]], place + 8 + done)
        return _load(content)

    def put(self, index: int, value: Any) -> bool:
        """Store a value; returns whether it is stored.

        Warns:
            CacheFullWarning: the memory does not suffice, and this is the first such value.
        """
        content = _dump(value)
        with self._locked():
            if index in self:
                return True
            if available_memory(torch.device("cpu")) - len(content) < RESERVE * total_memory():
                self._warn_full()
                return False
            if self._file is None:
                self._local[index] = content
                return True
            return self._append(index, content)

    def clear(self) -> None:
        """Remove all values, in all processes."""
        self._local.clear()
        if self._file is not None:
            with self._locked():
                os.ftruncate(self._file, 0)

    def _append(self, index: int, content: bytes) -> bool:
        place = max(self._number(_END), _DATA)
        try:
            self._write(place, len(content).to_bytes(8, "little") + content)
            # Written last: a process that was killed before has stored nothing.
            self._write(_PLACES + 8 * index, place.to_bytes(8, "little"))
        except OSError:  # no memory
            self._warn_full()
            return False
        end = -(-(place + 8 + len(content)) // 8) * 8
        self._write(_COUNT, (len(self) + 1).to_bytes(8, "little") + end.to_bytes(8, "little"))
        return True

    def _warn_full(self) -> None:
        if self._file is None:
            known, stored = getattr(self, "_told", False), sum(map(len, self._local.values()))
            self._told = True
        else:
            known, stored = self._number(_FULL) > 0, max(self._number(_END) - _DATA, 0)
            self._write(_FULL, (1).to_bytes(8, "little"))
        if not known:
            kept = f"{len(self)} cases ({stored / 2**30:.2f} GiB)"
            reserve = f"{RESERVE:.0%} of the memory ({RESERVE * total_memory() / 2**30:.1f} GiB)"
            warnings.warn(
                f"the cache of {self.name} holds {kept} and takes no more: {reserve} must stay available. The other "
                "cases are read in each epoch. Resample them once with tools/preprocess.py, or request more memory",
                CacheFullWarning,
                stacklevel=4,
            )

    def _place(self, index: int) -> int:
        if index < 0:
            raise IndexError(f"index {index}; expected at least 0")
        return self._number(_PLACES + 8 * index)

    def _number(self, place: int) -> int:
        assert self._file is not None
        return int.from_bytes(os.pread(self._file, 8, place), "little")

    def _write(self, place: int, content: bytes) -> None:
        assert self._file is not None
        rest = memoryview(content)
        while rest:
            done = os.pwrite(self._file, rest, place)
            rest, place = rest[done:], place + done

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._file is None:
            yield
            return
        import fcntl

        # The system releases this lock if the process is killed.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _open(self, file: int) -> None:
        self._file = file
        weakref.finalize(self, os.close, file)

    def __reduce__(self) -> tuple[Any, ...]:
        spawning = multiprocessing.context.get_spawning_popen() is not None
        return _opened, (self.name, DupFd(self._file) if spawning and self._file is not None else None)


def _opened(name: str, file: Any) -> SharedCache:
    if file is None:
        return SharedCache(name)
    cache = SharedCache.__new__(SharedCache)
    cache.name, cache._local = name, {}
    cache._open(file.detach())
    return cache


class _Pickler(pickle.Pickler):
    """Compresses label maps, which are mostly runs of equal ids."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray and obj.dtype == np.uint8 and obj.size > _SMALL:
            return _label_map, (zlib.compress(np.ascontiguousarray(obj).data, 1), obj.shape)
        return NotImplemented


def _label_map(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(bytearray(zlib.decompress(content)), np.uint8).reshape(shape)


def _dump(value: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(value)
    return stream.getvalue()


def _load(content: Any) -> Any:
    return pickle.loads(content)  # noqa: S301 (written by this run)
