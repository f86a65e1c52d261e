"""Voxels of NIfTI files: a limit on bytes before memory is allocated, and the checksum of gzip files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np

from ctvlm.utils.limits import excess_bytes, limit
from ctvlm.volume.ct_volume import CTReadError

_CHUNK = 1 << 20
_MAX_RATIO = 1032  # of deflate


def nifti_voxels(image: nib.Nifti1Pair, path: str | Path) -> np.ndarray:
    """Voxels of an image opened with nibabel, with slope and intercept applied.

    A gzip file is read to its end, where its checksum is: nibabel stops after the last voxel and does not notice
    changed bits.

    Raises:
        CTReadError: the header declares more than CTVLM_MAX_BYTES, or a gzip file is damaged.
    """
    proxy = cast(nib.arrayproxy.ArrayProxy, image.dataobj)
    # Scaled values are float64. The part before the voxels is decompressed, too.
    itemsize = proxy.dtype.itemsize if (proxy.slope, proxy.inter) == (1.0, 0.0) else max(8, proxy.dtype.itemsize)
    voxels = math.prod(int(n) for n in proxy.shape)
    if problem := excess_bytes(voxels * itemsize + int(proxy.offset)):
        raise CTReadError(path, *problem)
    # nibabel reserves and clears the memory before it reads. A pair has its voxels in the .img file.
    data, is_gzip = image.file_map["image"].filename or path, str(path).lower().endswith(".gz")
    declared, size = voxels * proxy.dtype.itemsize, Path(data).stat().st_size
    if declared > (_MAX_RATIO if is_gzip else 1) * size:
        found = f"{declared:,} bytes of voxels in a file of {size:,} bytes"
        raise CTReadError(path, found, "a complete file", "download the truncated or damaged file again")
    if not is_gzip:
        return np.asanyarray(proxy)
    try:
        return _from_gzip(proxy, path)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        found = f"a damaged gzip file ({type(error).__name__}: {error})"
        raise CTReadError(path, found, "a complete file", "download or write it again") from error


def _from_gzip(proxy: nib.arrayproxy.ArrayProxy, path: str | Path) -> np.ndarray:
    with gzip.open(path, "rb") as file:
        spec = (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)
        array = np.asanyarray(nib.arrayproxy.ArrayProxy(file, spec, mmap=False))
        rest = 0
        while chunk := file.read(_CHUNK):
            rest += len(chunk)
            if rest > limit("CTVLM_MAX_BYTES"):
                found = f"more than {limit('CTVLM_MAX_BYTES'):,} bytes after the voxels"
                raise CTReadError(path, found, "the end of the file", "remove the file")
    return array
