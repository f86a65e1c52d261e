"""Conversion of stored values to Hounsfield units."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctvlm.volume.ct_volume import CTReadError
from ctvlm.volume.hu_check import PADDING_BELOW, check_hu

AIR = -1024


def to_hu(
    values: np.ndarray, path: str | Path, rescale: tuple[float, float] | None = None, check_range: bool = True
) -> np.ndarray:
    """Rescale, check that the values are HU, and replace padding by air.

    Args:
        values: stored values (any shape).
        path: file, for error messages.
        rescale: (slope, intercept) of stored values, for files without their own.
        check_range: False skips the check and keeps the padding.

    Returns:
        int16 if all values are integers, else float32.

    Raises:
        CTReadError: values are NaN, infinite, constant or not HU (see ``check_hu``, which also warns).
    """
    if values.dtype.kind == "f" and not np.isfinite(values.min() + values.max()):
        count = int(np.size(values) - np.isfinite(values).sum())
        raise CTReadError(path, f"{count} NaN or infinite voxels", "finite values", "repair or remove the file")
    if rescale is not None:
        values = values.astype(np.float32) * np.float32(rescale[0]) + np.float32(rescale[1])
    if check_range:
        check_hu(values, path)
        if float(values.min()) < PADDING_BELOW:
            air = np.asarray(AIR, dtype=np.result_type(values.dtype, np.int16))
            values = np.where(values < PADDING_BELOW, air, values)
    whole = values.dtype.kind in "iub" or bool((values == np.rint(values)).all())
    if whole and float(values.min()) >= -32768 and float(values.max()) <= 32767:
        return values.astype(np.int16)
    return values.astype(np.float32)
