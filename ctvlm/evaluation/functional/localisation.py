"""How well a map or a mask finds a lesion.

Masks are boolean (D, H, W) on one grid with a spacing in mm (z, y, x). A score that would compare nothing with nothing
is NaN; a lesion that is missed altogether has overlap 0 and an infinite or undefined distance, as each function says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, zoom


def mask_iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union. NaN where both masks are empty; 0 where one is."""
    predicted, truth = _pair(predicted, truth)
    union = (predicted | truth).sum()
    return float((predicted & truth).sum() / union) if union else float("nan")


def mask_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Dice coefficient 2|A & B| / (|A| + |B|). NaN where both masks are empty; 0 where one is."""
    predicted, truth = _pair(predicted, truth)
    total = predicted.sum() + truth.sum()
    return float(2 * (predicted & truth).sum() / total) if total else float("nan")


def hit_rate(overlaps: Sequence[float], thresholds: Sequence[float] = (0.1, 0.3, 0.5)) -> dict[float, float]:
    """Share of findings whose overlap (Dice or IoU) reaches each threshold.

    ReXGroundingCT's hit rate is that of Dice >= 0.1 over findings (rexrank.ai/ReXGroundingCT/challenge.html).
    Findings with NaN (no lesion to find and none predicted) do not count; NaN where no finding counts.
    """
    values = np.asarray(overlaps, dtype=np.float64)
    values = values[~np.isnan(values)]
    return {t: float((values >= t).mean()) if len(values) else float("nan") for t in thresholds}


def centroid_distance_mm(predicted: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """Distance of the two masks' centres of mass in mm; NaN where either is empty."""
    predicted, truth = _pair(predicted, truth)
    if not predicted.any() or not truth.any():
        return float("nan")
    offset = np.argwhere(predicted).mean(axis=0) - np.argwhere(truth).mean(axis=0)
    return float(np.linalg.norm(offset * _spacing(spacing)))


def surface_distances_mm(predicted: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """``assd`` and ``hd95`` in mm between the surfaces of two masks; NaN where either is empty.

    A surface is the mask's voxels with a face outside it, or at the edge of the grid. ``assd`` is the mean of the two
    mean distances' pooled values; ``hd95`` the greater of the two 95th percentiles.
    """
    predicted, truth = _pair(predicted, truth)
    if not predicted.any() or not truth.any():
        return {"assd": float("nan"), "hd95": float("nan")}
    box = _box(predicted | truth)
    surfaces = [mask[box] & ~binary_erosion(mask[box]) for mask in (predicted, truth)]
    spacing = _spacing(spacing)
    there = distance_transform_edt(~surfaces[1], sampling=spacing)[surfaces[0]]
    back = distance_transform_edt(~surfaces[0], sampling=spacing)[surfaces[1]]
    return {
        "assd": float(np.concatenate([there, back]).mean()),
        "hd95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
    }


def peak_distance_mm(heat: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """Distance in mm from the map's maximum to the nearest voxel of the lesion; 0 inside it.

    Of several maxima the farthest counts, so that a constant map is charged with its worst voxel. NaN where the lesion
    is empty.
    """
    heat, truth = _heat(heat, truth)
    if not truth.any():
        return float("nan")
    lesion = np.argwhere(truth) * _spacing(spacing)
    peaks = heat == heat.max()
    if peaks.sum() == 1:
        return float(np.linalg.norm(lesion - np.argwhere(peaks)[0] * _spacing(spacing), axis=1).min())
    return float(distance_transform_edt(~truth, sampling=_spacing(spacing))[peaks].max())


def peak_hit(heat: np.ndarray, truth: np.ndarray) -> float:
    """1 where every maximum of the map lies in the lesion, else 0 (pointing game). NaN where the lesion is empty."""
    heat, truth = _heat(heat, truth)
    return float(truth[heat == heat.max()].all()) if truth.any() else float("nan")


def slice_error_mm(heat: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """Distance in mm from the map's best slice to the nearest slice that shows the lesion; 0 in one of them.

    The best slice has the greatest sum of the map; of several the farthest counts. NaN where the lesion is empty.
    """
    heat, truth = _heat(heat, truth)
    if not truth.any():
        return float("nan")
    profile = heat.sum(axis=(1, 2))
    # Sums of equal slices differ in their last bits.
    best = np.flatnonzero(profile >= profile.max() - 1e-12 * np.abs(heat).sum())
    shown = np.flatnonzero(truth.any(axis=(1, 2)))
    return float(np.abs(best[:, None] - shown[None, :]).min(axis=1).max() * _spacing(spacing)[0])


def slice_centre_error_mm(
    attention_N: np.ndarray, occupancy_N: np.ndarray, grid: Sequence[int], patch_depth_mm: float
) -> float:
    """Distance in mm along z between where a sentence looks and where its place lies: |mean z - mean z|.

    Each mean is over the patches' centres, weighted by attention and by the share of each patch that the place fills.
    ``slice_error_mm`` asks for a slice that shows the lesion; of an organ that spans the scan every slice does, and its
    middle is asked for here. NaN where the place is empty; constant attention looks at the middle of its patches.

    Args:
        attention_N, occupancy_N: not negative (N = d h w, z-major).
        grid: patches (d, h, w).
        patch_depth_mm: thickness of a patch.
    """
    attention, occupancy = (np.asarray(x, dtype=np.float64) for x in (attention_N, occupancy_N))
    for name, values in (("attention", attention), ("occupancy", occupancy)):
        if values.shape != (np.prod(grid),) or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                f"{name} of shape {values.shape} on a grid {tuple(grid)}: expected one number >= 0 a patch."
            )
    if not occupancy.any():
        return float("nan")
    if not attention.any():
        attention = np.ones_like(attention)
    layer_N = np.repeat(np.arange(grid[0]), grid[1] * grid[2])
    there, looked = (float((layer_N * x).sum() / x.sum()) for x in (occupancy, attention))
    return abs(there - looked) * float(patch_depth_mm)


def slice_localisation(
    predicted_mm: Sequence[float], target_mm: Sequence[float], position_mm: float = 12.0
) -> dict[str, float]:
    """RadFinder's slice localisation: ``mae_mm``, ``median_mm``, ``within_12mm`` and ``within_24mm``.

    Heights are cut into positions of ``position_mm``, and the error is the difference of positions times
    ``position_mm``. All NaN without a prediction.

    Source: src/radfinder/tasks/localization_task.py of github.com/lmb-freiburg/radfinder.

    Args:
        predicted_mm, target_mm: heights above the lower end of the scan in mm.
    """
    predicted, target = (np.floor(np.asarray(x, dtype=np.float64) / position_mm) for x in (predicted_mm, target_mm))
    if predicted.shape != target.shape:
        raise ValueError(f"{len(predicted)} predicted and {len(target)} true slices: expected one of each per text.")
    error = np.abs(predicted - target) * position_mm
    if not len(error):
        return dict.fromkeys(("mae_mm", "median_mm", "within_12mm", "within_24mm"), float("nan"))
    within = {f"within_{mm}mm": float((error <= mm).mean()) for mm in (12, 24)}
    return {"mae_mm": float(error.mean()), "median_mm": float(np.median(error)), **within}


def heat_to_mask(heat: np.ndarray, share_of_peak: float = 0.5) -> np.ndarray:
    """Voxels whose value lies above ``share_of_peak`` of the way from the map's minimum to its maximum.

    A constant map points nowhere: its mask is empty.
    """
    heat = np.asarray(heat, dtype=np.float64)
    if np.ptp(heat) == 0:
        return np.zeros(heat.shape, dtype=bool)
    return heat > heat.min() + share_of_peak * np.ptp(heat)


def patches_to_voxels(
    values_N: np.ndarray, grid: Sequence[int], shape: Sequence[int], smooth: bool = False
) -> np.ndarray:
    """Values of patches (N = d h w, z-major) on the voxels they cover (D, H, W).

    Args:
        smooth: linear between the centres of patches, and down to the least value beyond the volume, instead of
            constant in each patch: the peak is then the middle of the best patch, not all of it.

    Raises:
        ValueError: for a number of values that is not the grid's, or a shape that the grid does not divide.
    """
    if np.size(values_N) != np.prod(grid) or any(s % g for s, g in zip(shape, grid, strict=True)):
        raise ValueError(
            f"{np.size(values_N)} patches on a grid {tuple(grid)} do not tile a volume {tuple(shape)}: the grid must "
            "hold them all and divide the shape."
        )
    voxels = np.asarray(values_N).reshape(tuple(grid))
    # A constant stays a constant to the last bit: every voxel is its peak.
    if smooth and np.ptp(voxels) > 0:
        factors = [size / parts for size, parts in zip(shape, grid, strict=True)]
        voxels = voxels.astype(np.float64)
        return zoom(voxels, factors, order=1, mode="grid-constant", cval=voxels.min(), grid_mode=True)
    for axis, (size, parts) in enumerate(zip(shape, grid, strict=True)):
        voxels = np.repeat(voxels, size // parts, axis=axis)
    return voxels


def _spacing(spacing: Sequence[float]) -> np.ndarray:
    spacing = np.asarray(spacing, dtype=np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"Spacing {spacing.tolist()}: expected three positive numbers in mm (z, y, x).")
    return spacing


def _pair(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(
            f"Masks of shapes {predicted.shape} and {truth.shape} do not lie on one grid: resample one in physical "
            "space first (ctvlm.volume.match_mask)."
        )
    for mask in (predicted, truth):
        if mask.dtype.kind == "f" and np.isnan(mask).any():
            raise ValueError("A mask holds NaN, which is neither in nor out: check the prediction.")
    return predicted.astype(bool), truth.astype(bool)


def _heat(heat: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    heat = np.asarray(heat, dtype=np.float64)
    if not np.isfinite(heat).all():
        raise ValueError("The map holds NaN or infinity: check the model's attention.")
    _pair(heat != 0, truth)
    return heat, np.asarray(truth).astype(bool)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """Bounding box, so that distances are not computed over a whole CT."""
    return tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(mask))
