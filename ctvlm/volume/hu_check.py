"""Check whether the values of a volume are Hounsfield units, by the distribution of its voxels without padding."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctvlm.volume.ct_volume import CTReadError

# Below any tissue and air: scanners write such values outside the field of view (-2000, -3024, -8192).
PADDING_BELOW = -1500
EXPECTED = "Hounsfield units (air near -1000, fat near -100, soft tissue near 40, bone up to 3000)"
RESCALE = "declare rescale=(slope, intercept)"
TWICE = "if an intercept was applied twice, remove the rescale"
SKIP = "check_range=False accepts the values as they are"
# Larger volumes are subsampled; the shares change by less than 0.1%.
MANY_VOXELS = 4_000_000
_LOWEST, _HIGHEST = -32768, 32767


@dataclass(frozen=True)
class HUShares:
    """Shares of the voxels in ranges of HU that separate air, tissue and bone.

    Padding is excluded: voxels below -1500, voxels with the lowest remaining value, and voxels of a constant that fills
    20% of the volume (a value below -900) or 50% (the value 0). The background outside the scanned circle and around a
    masked organ is constant, while the lowest value of a tissue is rare.

    Attributes:
        padding: share of all voxels below -1500.
        scattered: whether the voxels below -1500 have many different values, which is typical of tissue.
        flat: share of all voxels with the lowest remaining value.
        near_flat: share from 1 to 40 above the lowest value; large if that value clips a tissue.
        content: share of all voxels that are not padding; the following shares and percentiles refer to these voxels.
        low, median, high: percentiles 0.1, 50 and 99.9.
        below_air: share below -1100.
        pure_air: share from -1060 to -960.
        air: share from -1100 to -600 (air and lung).
        gap: share from -600 to -180, the range of diseased lung only.
        fat: share from -180 to -50.
        zero: share from -15 to 15.
        tissue: share from -180 to 150 (fat, fluid, soft tissue).
        bone: share above 700.
        top: share of the highest value.
    """

    padding: float
    scattered: bool
    flat: float
    near_flat: float
    content: float
    low: float
    median: float
    high: float
    below_air: float
    pure_air: float
    air: float
    gap: float
    fat: float
    zero: float
    tissue: float
    bone: float
    top: float

    @classmethod
    def measure(cls, values: np.ndarray) -> HUShares:
        """Compute the shares of a volume of finite values (any shape)."""
        counts = _histogram(values)
        total = counts.sum()
        padding = counts[: PADDING_BELOW - _LOWEST].copy()
        counts[: PADDING_BELOW - _LOWEST] = 0
        padded = padding.sum()
        scattered = bool(padded > 0.05 * total and np.sort(padding)[-2:].sum() < 0.5 * padded)
        flat, lowest = 0.0, 0
        if counts.any():
            lowest, common = int(np.flatnonzero(counts)[0]), int(counts.argmax())
            flat = float(counts[lowest] / total)
            value, share_of_common = common + _LOWEST, counts[common] / total
            constant = (value < -900 and share_of_common > 0.2) or (value == 0 and share_of_common > 0.5)
            background = list({lowest, common} if constant else {lowest})
            if counts[background].sum() < counts.sum():
                counts[background] = 0
        rest = max(int(counts.sum()), 1)
        running = np.cumsum(counts)

        def share(start: int, stop: int) -> float:
            return float(counts[start - _LOWEST : stop - _LOWEST].sum() / rest)

        def percentile(percent: float) -> float:
            return float(np.searchsorted(running, rest * percent / 100) + _LOWEST)

        return cls(
            padding=float(padded / total),
            scattered=scattered,
            flat=flat,
            near_flat=share(lowest + 1 + _LOWEST, lowest + 41 + _LOWEST),
            content=float(rest / total),
            low=percentile(0.1),
            median=percentile(50),
            high=percentile(99.9),
            below_air=share(PADDING_BELOW, -1100),
            pure_air=share(-1060, -960),
            air=share(-1100, -600),
            gap=share(-600, -180),
            fat=share(-180, -50),
            zero=share(-15, 16),
            tissue=share(-180, 151),
            bone=share(701, _HIGHEST + 1),
            top=float(counts[np.flatnonzero(counts)[-1]] / rest) if counts.any() else 0.0,
        )

    def __str__(self) -> str:
        return (
            f"values from {self.low:g} to {self.high:g} with median {self.median:g} outside the padding "
            f"({self.air:.1%} air or lung, {self.tissue:.1%} fat or soft tissue, {self.bone:.1%} above 700)"
        )


def check_hu(values: np.ndarray, path: str | Path) -> None:
    """Raise an error if the values of a volume cannot be HU, and warn if they are probably not HU.

    Args:
        values: finite values, before padding is replaced.
        path: file, for the message.

    Raises:
        CTReadError: the values are not HU.
    """
    low, high = float(values.min()), float(values.max())
    found = f"values from {low:g} to {high:g}"
    if low == high:
        raise CTReadError(path, f"the single value {low:g}", EXPECTED, "repair or remove the file")
    if high > _HIGHEST:
        raise CTReadError(path, found, EXPECTED, f"if these are stored values, {RESCALE}; {SKIP}")
    shares = HUShares.measure(values)
    if shares.padding > 0.98:
        found = f"{shares.padding:.0%} of the voxels below {PADDING_BELOW}"
        raise CTReadError(path, found, EXPECTED, f"if these are stored values, {RESCALE}; {TWICE}; {SKIP}")
    if high - low <= 8:
        raise CTReadError(path, found, EXPECTED, f"if HU were divided by 1000, declare rescale=(1000, 0); {SKIP}")
    found = str(shares)
    if shares.padding > 0:
        found = f"{shares.padding:.0%} of the voxels below {PADDING_BELOW}, and {found}"
    if action := _error_action(shares):
        raise CTReadError(path, found, EXPECTED, f"{action}; {SKIP}")
    if cause := _warning_cause(shares):
        warnings.warn(f"{path}: found {found}; expected {EXPECTED}: {cause}. {SKIP}.", stacklevel=2)


def _error_action(s: HUShares) -> str:
    """What to do about values that are not HU; empty if they can be HU."""
    stored = f"if these are stored CT values, {RESCALE}, often (1, -1024) or (1, -1000)"
    if s.content < 0.005:
        return ""
    if s.scattered or s.below_air > 0.015:
        return f"an intercept or slope was probably applied twice: remove the rescale, or {RESCALE} that inverts it"
    clipped = s.flat > 0.02 or s.top > 0.002
    if s.low >= 0 and s.high <= 255 and (clipped or s.high > 120):
        return f"this is an 8-bit image: {RESCALE} that inverts the window, if the window did not clip values"
    if s.bone > 0.2 + 2 * s.air:
        return f"{stored}; if bone is dark and air is bright, rescale=(-1, 0)"
    if _only_dense(s) and s.high > 700 and (s.zero > 0.15 or s.bone > 0.1 or s.low > -20):
        return f"there is no air and no fat: {stored}; if this is MR, remove it"
    if s.gap > 0.15 and s.air < 0.02:
        return f"there is no air near -1000: HU were probably divided; {RESCALE} that inverts it"
    if s.tissue < 0.005 and (s.pure_air > 0.5 or s.high < -400):
        return "there is only air: an intercept was probably applied twice; remove the rescale"
    return ""


def _warning_cause(s: HUShares) -> str:
    """Why values that can be HU are probably not HU; empty without a reason."""
    if s.content < 0.005:
        return "nearly all voxels have one value, and the rest is too small for a decision"
    if _only_dense(s) and s.zero > 0.2 and s.flat < 0.5:
        return "there is no air and no fat, and the background is near 0 but not constant: this may be MR"
    if s.top > (0.002 if _only_dense(s) else 0.25):
        return "the highest value is clipped: this may be a window, not HU"
    if s.tissue < 0.05 and (s.pure_air > 0.5 or (s.flat > 0.2 and s.near_flat > 0.05 and s.median < -800)):
        return "nearly all voxels are air: an intercept may have been applied twice"
    if s.zero > 0.35 and s.low > -250:
        return "most values are near 0: HU may have been divided"
    return ""


def _only_dense(s: HUShares) -> bool:
    """Whether there is no air, lung or fat, as in a masked vessel or a crop inside an organ."""
    return s.air < 0.005 and s.gap + s.fat < 0.005


def _histogram(values: np.ndarray) -> np.ndarray:
    """Voxels per integer value from -32768 to 32767; values outside are clipped."""
    if values.size > MANY_VOXELS:
        values = values[tuple(slice(None, None, 2 if n > 64 else 1) for n in values.shape)]
    whole = values if values.dtype.kind in "iub" else np.rint(values)
    index = np.clip(whole, _LOWEST, _HIGHEST).astype(np.int32).ravel() - _LOWEST
    return np.bincount(index, minlength=_HIGHEST - _LOWEST + 1)
