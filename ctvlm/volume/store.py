"""Stored arrays (``.b2nd``): volumes on an encoder's grid, compressed in blocks and read by windows.

A file contains one array and its affine in Blosc2's NDArray format. It is mapped into memory, so that only the blocks
of a window are read and decoded. Windows of 32x128x128 voxels take 3.5 ms, compared with 35 ms for Zarr 3
(``tools/analysis_tools/benchmark_data.py --formats``), and a volume is one file instead of hundreds, which matters for
inode quotas. From a URL the compressed files of a case are fetched at the same time, each in one request, and decoded
by windows; ``filecache::s3://...`` caches them on the local disk.

Measured with ``tools/analysis_tools/benchmark_store.py`` (10,000 cases of 12 KiB in 2.75 arrays, two data workers,
10 ms per request, two busy cores): 26 cases/s from a server and 36 from the local disk; 3.75 requests per case in the
first epoch, 2.8 later; memory of the workers 102 MiB at first, 108 at the end. A worker waits for two requests per case
in the first epoch and for one later, whatever the number of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctvlm.utils import MissingPackageError
from ctvlm.volume import files
from ctvlm.volume.checksums import verify_contents, verify_stored
from ctvlm.volume.ct_volume import CTReadError, CTVolume
from ctvlm.volume.sizes import check_size

SUFFIX = ".b2nd"
# Blocks (64 to 128 KiB, within a core's cache) are the unit of decoding; chunks are the unit of the index.
CHUNK = (32, 128, 128)
BLOCK = (8, 64, 64)
_MAX_HEADER = 4096  # ours take about 200 bytes


def _blosc2():
    try:
        import blosc2
    except ImportError:
        raise MissingPackageError("stored volumes (.b2nd) need Blosc2: pip install 'ctvlm[store]'") from None
    if (4, 0) <= tuple(int(part) for part in blosc2.__version__.split(".")[:2]) < (4, 14):
        raise MissingPackageError(
            f"stored volumes (.b2nd): found Blosc2 {blosc2.__version__}, which can run code from a file. Install a "
            "version before 4.0 or from 4.14 on: pip install -U blosc2"
        )
    # Data workers already run in parallel, and threads do not survive a fork.
    blosc2.set_nthreads(1)
    return blosc2


def encode(volume: CTVolume, level: int = 5) -> bytes:
    """Content of a ``.b2nd`` file. A higher ``level`` (1 to 9) gives smaller files and slower writing."""
    blosc2 = _blosc2()
    array = np.ascontiguousarray(volume.array)
    chunks = tuple(min(n, c) for n, c in zip(array.shape, CHUNK))
    blocks = tuple(min(n, b) for n, b in zip(chunks, BLOCK))
    filters = [blosc2.Filter.SHUFFLE if array.itemsize > 1 else blosc2.Filter.NOFILTER]
    cparams = dict(codec=blosc2.Codec.ZSTD, clevel=level, filters=filters, filters_meta=[0], nthreads=1)
    stored = blosc2.asarray(array, chunks=chunks, blocks=blocks, cparams=cparams)
    stored.schunk.vlmeta["affine"] = [[float(x) for x in row] for row in volume.affine]
    if array.dtype == np.uint8:
        stored.schunk.vlmeta["label_counts"] = label_counts(array).tolist()
    return stored.to_cframe()


def label_counts(label_map: np.ndarray) -> np.ndarray:
    """Voxels per label of a uint8 map (256)."""
    # By slices: bincount converts every voxel to 8 bytes.
    return sum((np.bincount(plane.ravel(), minlength=256) for plane in label_map), np.zeros(256, np.int64))


def _check_plain(header: bytes) -> None:
    """Refuse files that Blosc2 would open as another object, before version 4.14 by running code from the file.

    Such a file has a metadata layer with one of these names (in msgpack, with their length) in its header.
    """
    if header[2:10] != b"b2frame\0":
        raise ValueError("no Blosc2 frame")
    size = int.from_bytes(header[11:15], "big")
    if size > _MAX_HEADER or any(name in header for name in (b"\xa9LazyArray", b"\xacproxy-source", b"\xa3b2o")):
        raise ValueError("not an array, but an expression or a reference")


def open_together(paths: Sequence[str]) -> list[StoredArray]:
    """Open the arrays of a case. Those at URLs are fetched at the same time.

    Raises:
        FileNotFoundError, CTReadError: see StoredArray.
    """
    if not all(map(files.is_url, paths)):
        return [StoredArray(path) for path in paths]
    contents = files.read_together(paths)
    verify_contents(contents)
    return [StoredArray(path, contents[path]) for path in paths]


class StoredArray:
    """An open ``.b2nd`` file. The geometry is read immediately, voxels by window.

    Args:
        data: verified content of a file at a URL, if it was fetched already.

    Attributes:
        shape: (D, H, W).
        affine: 4x4, voxel (x, y, z) to RAS+ mm.

    Raises:
        FileNotFoundError: the file does not exist.
        CTReadError: the file is not a stored volume, or differs from its checksum (see ``verify_stored``).
    """

    def __init__(self, path: str | Path, data: bytes | None = None) -> None:
        blosc2 = _blosc2()
        self.path = str(path)
        try:
            if files.is_url(path):
                if data is None:
                    data = files.read_bytes(path)
                    verify_contents({str(path): data})
                self._data = data  # the array refers to these bytes without a copy
                _check_plain(self._data[:_MAX_HEADER])
                self._array = blosc2.ndarray_from_cframe(self._data)
            else:
                name = files.local(path)
                if not name.is_file():
                    raise FileNotFoundError(f"{path}: no such file. Move a store together with its manifest.")
                verify_stored(path)
                with open(name, "rb") as file:
                    _check_plain(file.read(_MAX_HEADER))
                self._array = blosc2.open(str(name), mode="r", mmap_mode="r", dparams=dict(nthreads=1))
            self.affine = np.array(self._array.schunk.vlmeta["affine"], dtype=np.float64)
            self.shape: tuple[int, int, int] = tuple(self._array.shape)
            if len(self.shape) != 3 or self.affine.shape != (4, 4):
                raise ValueError(f"shape {self.shape}, affine of shape {self.affine.shape}")
        except (FileNotFoundError, CTReadError):
            raise
        except Exception as error:
            # The library raises RuntimeError, KeyError, ValueError ... for other or truncated files.
            found = f"a file that is not a stored volume ({type(error).__name__}: {error})"
            raise CTReadError(path, found, "an array with its affine", "run tools/preprocess.py again") from error

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    def label_counts(self) -> np.ndarray:
        """Voxels per label (256) of the whole uint8 map, from the metadata if they are stored there."""
        if "label_counts" in self._array.schunk.vlmeta:
            return np.array(self._array.schunk.vlmeta["label_counts"])
        return label_counts(self.read().array)

    def read(self, window: Sequence[slice] | None = None) -> CTVolume:
        """Decode a window of index slices (z, y, x) with step 1, or the whole array.

        Raises:
            CTReadError: the data of the window is damaged, or larger than the limits.
        """
        box = tuple(slice(0, n) for n in self.shape) if window is None else tuple(window)
        starts = [s.indices(n)[0] for s, n in zip(box, self.shape, strict=True)]
        check_size(self.path, [len(range(*s.indices(n))) for s, n in zip(box, self.shape)], self.dtype.itemsize)
        try:
            array = self._array[box]
        except Exception as error:
            found = f"blocks that cannot be decoded ({type(error).__name__}: {error})"
            action = "delete the folder of the case and run tools/preprocess.py again"
            raise CTReadError(self.path, found, "a complete file", action) from error
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array(starts[::-1], dtype=float)
        return CTVolume(array, affine)
