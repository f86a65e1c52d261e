"""Localisation scores of a heat map or a mask against a lesion mask.

Masks are boolean (D, H, W) on one grid with a spacing in mm (z, y, x). Each function defines its value for empty masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, zoom

Spacing = Sequence[float] | np.ndarray


def mask_iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union. NaN if both masks are empty; 0 if one is."""
    predicted, truth = _pair(predicted, truth)
    union = (predicted | truth).sum()
    return float((predicted & truth).sum() / union) if union else float("nan")


def mask_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Dice coefficient 2|A & B| / (|A| + |B|). NaN if both masks are empty; 0 if one is."""
    predicted, truth = _pair(predicted, truth)
    total = predicted.sum() + truth.sum()
    return float(2 * (predicted & truth).sum() / total) if total else float("nan")


def hit_rate(
    overlaps: Sequence[float] | np.ndarray, thresholds: Sequence[float] = (0.1, 0.3, 0.5)
) -> dict[float, float]:
    """Share of findings whose overlap (Dice or IoU) reaches each threshold.

    ReXGroundingCT's hit rate is the share of findings with Dice >= 0.1 (rexrank.ai/ReXGroundingCT/challenge.html).
    Findings with NaN (both masks empty) are excluded. NaN without findings.
    """
    values = np.asarray(overlaps, dtype=np.float64)
    values = values[~np.isnan(values)]
    return {t: float((values >= t).mean()) if len(values) else float("nan") for t in thresholds}


def centroid_distance_mm(predicted: np.ndarray, truth: np.ndarray, spacing: Spacing) -> float:
    """Distance between the centres of mass of two masks in mm; NaN if either is empty."""
    predicted, truth = _pair(predicted, truth)
    if not predicted.any() or not truth.any():
        return float("nan")
    offset = np.argwhere(predicted).mean(axis=0) - np.argwhere(truth).mean(axis=0)
    return float(np.linalg.norm(offset * checked_spacing(spacing)))


def surface_distances_mm(predicted: np.ndarray, truth: np.ndarray, spacing: Spacing) -> dict[str, float]:
    """``assd`` and ``hd95`` in mm between the surfaces of two masks; NaN if either is empty.

    The surface of a mask is the set of its voxels with a face outside the mask or at the edge of the grid. ``assd`` is
    the mean over the distances of both directions; ``hd95`` is the greater of the two 95th percentiles.
    """
    predicted, truth = _pair(predicted, truth)
    if not predicted.any() or not truth.any():
        return {"assd": float("nan"), "hd95": float("nan")}
    box = _box(predicted | truth)
    surfaces = [mask[box] & ~binary_erosion(mask[box]) for mask in (predicted, truth)]
    spacing_mm = checked_spacing(spacing)
    to_truth = distance_transform_edt(~surfaces[1], sampling=spacing_mm)[surfaces[0]]
    to_predicted = distance_transform_edt(~surfaces[0], sampling=spacing_mm)[surfaces[1]]
    return {
        "assd": float(np.concatenate([to_truth, to_predicted]).mean()),
        "hd95": float(max(np.percentile(to_truth, 95), np.percentile(to_predicted, 95))),
    }


def peak_distance_mm(heat: np.ndarray, truth: np.ndarray, spacing: Spacing) -> float:
    """Distance in mm from the map's maximum to the nearest voxel of the lesion; 0 inside it.

    The farthest of several maxima is used, so that a constant map gets its worst voxel. NaN if the lesion is empty.
    """
    heat, truth = _heat(heat, truth)
    if not truth.any():
        return float("nan")
    spacing_mm = checked_spacing(spacing)
    peaks = heat == heat.max()
    if peaks.sum() == 1:
        offsets = np.argwhere(truth) * spacing_mm - np.argwhere(peaks)[0] * spacing_mm
        return float(np.linalg.norm(offsets, axis=1).min())
    return float(distance_transform_edt(~truth, sampling=spacing_mm)[peaks].max())


def peak_hit(heat: np.ndarray, truth: np.ndarray) -> float:
    """1 if every maximum of the map is inside the lesion, else 0 (pointing game). NaN if the lesion is empty."""
    heat, truth = _heat(heat, truth)
    return float(truth[heat == heat.max()].all()) if truth.any() else float("nan")


def slice_error_mm(heat: np.ndarray, truth: np.ndarray, spacing: Spacing) -> float:
    """Distance in mm from the map's best slice to the nearest slice of the lesion; 0 if it is one of them.

    The best slice has the greatest sum of the map; the farthest of equally good slices is used. NaN if the lesion is
    empty.
    """
    heat, truth = _heat(heat, truth)
    if not truth.any():
        return float("nan")
    profile = heat.sum(axis=(1, 2))
    # The sums of equal slices differ by rounding errors.
    best = np.flatnonzero(profile >= profile.max() - 1e-12 * np.abs(heat).sum())
    lesion = np.flatnonzero(truth.any(axis=(1, 2)))
    return float(np.abs(best[:, None] - lesion[None, :]).min(axis=1).max() * checked_spacing(spacing)[0])


def slice_centre_error_mm(
    attention_N: np.ndarray, occupancy_N: np.ndarray, grid: Sequence[int], patch_depth_mm: float
) -> float:
    """Distance in mm along z between the centres of a step's attention and of its target region.

    The centres are means of the patches' z positions, weighted by the attention and by the share of each patch that the
    region fills. ``slice_error_mm`` accepts any slice of the lesion, which is trivial for an organ that extends over
    the whole scan. NaN if the region is empty. Zero attention counts as constant.

    Args:
        attention_N, occupancy_N: not negative (N = d h w, z-major).
        grid: number of patches (d, h, w).
        patch_depth_mm: thickness of a patch.

    Raises:
        ValueError: a map does not fit the grid, is not finite or is negative.
    """
    attention, occupancy = (np.asarray(x, dtype=np.float64) for x in (attention_N, occupancy_N))
    for name, values in (("attention", attention), ("occupancy", occupancy)):
        if values.shape != (np.prod(grid),) or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                f"{name} has shape {values.shape} on a grid {tuple(grid)}; expected one finite number >= 0 per patch."
            )
    if not occupancy.any():
        return float("nan")
    if not attention.any():
        attention = np.ones_like(attention)
    layer_N = np.repeat(np.arange(grid[0]), grid[1] * grid[2])
    target, predicted = (float((layer_N * x).sum() / x.sum()) for x in (occupancy, attention))
    return abs(target - predicted) * float(patch_depth_mm)


def slice_localisation(
    predicted_mm: Sequence[float] | np.ndarray, target_mm: Sequence[float] | np.ndarray, position_mm: float = 12.0
) -> dict[str, float]:
    """RadFinder's slice localisation: ``mae_mm``, ``median_mm``, ``within_12mm`` and ``within_24mm``.

    Heights are divided into positions of ``position_mm``, and the error is the difference of positions times
    ``position_mm``. All NaN without a prediction.

    Source: src/radfinder/tasks/localization_task.py of github.com/lmb-freiburg/radfinder.

    Args:
        predicted_mm, target_mm: heights above the lower end of the scan in mm.
    """
    predicted, target = (np.floor(np.asarray(x, dtype=np.float64) / position_mm) for x in (predicted_mm, target_mm))
    if predicted.shape != target.shape:
        raise ValueError(f"Found {len(predicted)} predicted and {len(target)} true slices; expected equal numbers.")
    error = np.abs(predicted - target) * position_mm
    if not len(error):
        return dict.fromkeys(("mae_mm", "median_mm", "within_12mm", "within_24mm"), float("nan"))
    within = {f"within_{mm}mm": float((error <= mm).mean()) for mm in (12, 24)}
    return {"mae_mm": float(error.mean()), "median_mm": float(np.median(error)), **within}


def heat_to_mask(heat: np.ndarray, share_of_peak: float = 0.5) -> np.ndarray:
    """Voxels whose value is above minimum + ``share_of_peak`` * (maximum - minimum) of the map.

    The mask of a constant map is empty.
    """
    heat = np.asarray(heat, dtype=np.float64)
    if np.ptp(heat) == 0:
        return np.zeros(heat.shape, dtype=bool)
    return heat > heat.min() + share_of_peak * np.ptp(heat)


def patches_to_voxels(
    values_N: np.ndarray, grid: Sequence[int], shape: Sequence[int], smooth: bool = False
) -> np.ndarray:
    """Values of patches (N = d h w, z-major) on their voxels (D, H, W).

    Args:
        smooth: interpolate linearly between the centres of patches, with the minimum outside the volume, instead of
            constant values in each patch. The peak is then the centre of the best patch.

    Raises:
        ValueError: the number of values is not that of the grid, or the grid does not divide the shape.
    """
    if np.size(values_N) != np.prod(grid) or any(s % g for s, g in zip(shape, grid, strict=True)):
        raise ValueError(
            f"{np.size(values_N)} patches on a grid {tuple(grid)} do not tile a volume of shape {tuple(shape)}; the "
            "grid must have as many patches and divide the shape."
        )
    voxels = np.asarray(values_N).reshape(tuple(grid))
    # Interpolation of a constant map would add rounding errors, and a single peak with them.
    if smooth and np.ptp(voxels) > 0:
        factors = [size / parts for size, parts in zip(shape, grid, strict=True)]
        voxels = voxels.astype(np.float64)
        return zoom(voxels, factors, order=1, mode="grid-constant", cval=voxels.min(), grid_mode=True)
    for axis, (size, parts) in enumerate(zip(shape, grid, strict=True)):
        voxels = np.repeat(voxels, size // parts, axis=axis)
    return voxels


def checked_spacing(spacing: Spacing) -> np.ndarray:
    """Spacing as an array (3).

    Raises:
        ValueError: the spacing is not three positive numbers.
    """
    spacing_mm = np.asarray(spacing, dtype=np.float64)
    if spacing_mm.shape != (3,) or not (np.isfinite(spacing_mm) & (spacing_mm > 0)).all():
        raise ValueError(f"Found spacing {spacing_mm.tolist()}; expected three positive numbers in mm (z, y, x).")
    return spacing_mm


def _pair(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(
            f"Masks have shapes {predicted.shape} and {truth.shape}; expected one grid. Resample one of them in "
            "physical space first (ctvlm.volume.match_mask)."
        )
    for mask in (predicted, truth):
        if mask.dtype.kind == "f" and np.isnan(mask).any():
            raise ValueError("A mask contains NaN. Check the prediction.")
    return predicted.astype(bool), truth.astype(bool)


def _heat(heat: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    heat = np.asarray(heat, dtype=np.float64)
    if not np.isfinite(heat).all():
        raise ValueError("The heat map contains NaN or infinity. Check the model's attention.")
    _pair(heat != 0, truth)
    return heat, np.asarray(truth).astype(bool)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """Bounding box, so that distance maps do not cover a whole CT."""
    return tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(mask))
