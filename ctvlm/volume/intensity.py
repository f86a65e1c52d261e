"""Are these numbers Hounsfield units? Ours are the checks that a reader does not make."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctvlm.volume.ct_volume import CTReadError

AIR = -1024
# Below this no tissue and no air exists: scanners write it where they saw nothing (-2000, -3024, -8192).
PADDING_BELOW = -1500
EXPECTED = "Hounsfield units (air near -1000, soft tissue near 40, bone to 3000)"
RESCALE = "declare rescale=(slope, intercept)"


def to_hu(
    values: np.ndarray, path: str | Path, rescale: tuple[float, float] | None = None, check_range: bool = True
) -> np.ndarray:
    """Rescale, replace padding by air, refuse what cannot be HU; int16 where the values are whole, else float32.

    Args:
        rescale: (slope, intercept) of stored values, for files that do not carry their own.
        check_range: False accepts any finite range (the caller vouches for it).

    Raises:
        CTReadError: not finite, constant, or a range that is not HU.
    """
    if values.dtype.kind == "f" and not np.isfinite(values.min() + values.max()):
        count = int(np.size(values) - np.isfinite(values).sum())
        raise CTReadError(path, f"{count} voxels that are NaN or infinite", "finite values", "repair or drop the file")
    if rescale is not None:
        values = values.astype(np.float32) * np.float32(rescale[0]) + np.float32(rescale[1])
    low, high = float(values.min()), float(values.max())
    padded = 0.0
    if low < PADDING_BELOW and check_range:
        padding = values < PADDING_BELOW
        padded = float(padding.mean())
        values = np.where(padding, np.asarray(AIR, dtype=np.result_type(values.dtype, np.int16)), values)
        low = float(values.min())
    if check_range:
        _check(values, low, high, padded, path)
    whole = values.dtype.kind in "iub" or bool((values == np.rint(values)).all())
    if whole and low >= -32768 and high <= 32767:
        return values.astype(np.int16)
    return values.astype(np.float32)


def _check(values: np.ndarray, low: float, high: float, padded: float, path: str | Path) -> None:
    found = f"values from {low:g} to {high:g}"
    if padded > 0.98:
        raise CTReadError(
            path, f"{padded:.0%} of the voxels below {PADDING_BELOW}", EXPECTED, f"if stored raw, {RESCALE}"
        )
    if low == high:
        raise CTReadError(path, f"the single value {low:g} everywhere", EXPECTED, "repair or drop the file")
    if high - low <= 8:
        do = f"if they were divided by 1000, {RESCALE.replace('(slope, intercept)', '(1000, 0)')}"
        raise CTReadError(path, found, EXPECTED, do)
    if high > 32767:
        raise CTReadError(path, found, EXPECTED, f"if stored raw, {RESCALE}")
    if low >= 0 and high <= 255:
        raise CTReadError(
            path, f"{found}, an 8-bit picture", EXPECTED, f"if windowed, {RESCALE} that undoes the window"
        )
    if low >= 0 and high > 700:
        do = f"if these are stored CT values, {RESCALE}, often (1, -1024); if this is MR, drop it"
        raise CTReadError(path, f"{found}, no air at all", EXPECTED, do)
    if padded > 0.05 and float(((values > -200) & (values < 300)).mean()) < 0.005:
        found = f"{padded:.0%} of the voxels below {PADDING_BELOW} and no soft tissue"
        raise CTReadError(path, found, EXPECTED, "an intercept was probably applied twice: drop the rescale")
