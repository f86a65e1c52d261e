"""Size limits of images, checked before memory is allocated (see ``ctvlm.utils.limits``)."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from ctvlm.utils.limits import excess, excess_bytes
from ctvlm.volume.ct_volume import CTReadError

_CHUNK = 1 << 20


def check_size(path: str | Path, shape: Sequence[int], itemsize: int = 1) -> None:
    """Check the shape and bytes per voxel of a header.

    Raises:
        CTReadError: more voxels or bytes than the limits.
    """
    if problem := excess(shape, itemsize):
        raise CTReadError(path, *problem)


def check_npz(path: str | Path, names: Sequence[str]) -> None:
    """Check the arrays of an ``.npz`` by their headers.

    Raises:
        CTReadError: an array is larger than the limits.
        KeyError, ValueError, zipfile.BadZipFile: not an ``.npz`` with these arrays.
    """
    with zipfile.ZipFile(path) as archive:
        stored = set(archive.namelist())
        for name in names:
            member = f"{name}.npy" if f"{name}.npy" in stored else name
            with archive.open(member) as file:
                shape, itemsize = _npy_header(file)
            check_size(path, shape, itemsize)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], int]:
    version = np.lib.format.read_magic(file)
    if version[0] == 1:
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return shape, dtype.itemsize
    # Later versions store the header's length, up to 4 GiB, in 4 bytes; NumPy reads it before its check.
    length = file.read(4)
    if len(length) < 4 or int.from_bytes(length, "little") > 10_000:
        raise ValueError("the header of an array is longer than 10,000 bytes")
    file.seek(-4, 1)
    shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype.itemsize


def check_deflated(path: Path, offset: int) -> None:
    """Decompress a raw deflate stream in parts and count its bytes, without keeping them.

    Raises:
        CTReadError: more than CTVLM_MAX_BYTES.
    """
    stream, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with open(path, "rb") as file:
        file.seek(offset)
        while not stream.eof and (chunk := stream.unconsumed_tail or file.read(_CHUNK)):
            total += len(stream.decompress(chunk, _CHUNK))
            if problem := excess_bytes(total):
                raise CTReadError(path, f"more than {problem[0]}", *problem[1:])
