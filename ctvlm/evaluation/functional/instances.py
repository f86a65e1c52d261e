"""Instance-level scores of lesion masks: each predicted lesion is matched with at most one true lesion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import find_objects, generate_binary_structure, label
from scipy.optimize import linear_sum_assignment

from ctvlm.evaluation.functional.localisation import centroid_distance_mm, surface_distances_mm


def connected_instances(mask: np.ndarray, min_voxels: int = 1) -> np.ndarray:
    """Numbers (1, 2, ...) of the connected components of a mask (D, H, W), 0 outside.

    Voxels that share a face or an edge are connected (18 neighbours), as in ReXGroundingCT's scorer.

    Args:
        min_voxels: smaller components are dropped. ReXGroundingCT drops predicted components below 10 voxels.
    """
    components, number = label(np.asarray(mask).astype(bool), structure=generate_binary_structure(3, 2))
    sizes = np.bincount(components.ravel(), minlength=number + 1)
    kept = sizes >= min_voxels
    kept[0] = False
    return (np.cumsum(kept) * kept)[components]


def instance_counts(predicted: np.ndarray, truth: np.ndarray, min_dice: float = 0.2) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of two instance maps, matched by Dice.

    A predicted and a true instance can form a pair if their Dice is at least ``min_dice``, 0.2 in ReXGroundingCT
    (rexrank.ai/ReXGroundingCT). Each instance is in at most one pair. The assignment has as many pairs as possible and,
    among those, the largest sum of Dice.

    Args:
        predicted, truth: instance numbers (D, H, W); 0 is background.

    Raises:
        ValueError: the maps differ in shape.
    """
    predicted, truth = _same_grid(predicted, truth)
    names_P, sizes_P = np.unique(predicted[predicted > 0], return_counts=True)
    names_T, sizes_T = np.unique(truth[truth > 0], return_counts=True)
    both = (predicted > 0) & (truth > 0)
    overlap_PT = np.zeros((len(names_P), len(names_T)))
    np.add.at(overlap_PT, (np.searchsorted(names_P, predicted[both]), np.searchsorted(names_T, truth[both])), 1)
    dice_PT = 2 * overlap_PT / (sizes_P[:, None] + sizes_T[None, :])
    return _matched(np.where(dice_PT >= min_dice, dice_PT, np.nan))


def instance_counts_by_distance(
    predicted: np.ndarray, truth: np.ndarray, spacing: Sequence[float], focal: bool = False
) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of two instance maps, matched by distance.

    A predicted and a true instance can form a pair if their distance is at most twice the largest voxel spacing. The
    distance is that of the centroids for a focal finding, otherwise the average symmetric surface distance (ASSD).
    Each instance is in at most one pair. The assignment has as many pairs as possible and, among those, the smallest
    sum of distances. Distances and limit follow ReXGroundingCT's scorer; the one-to-one pairing is our reading of it.

    Args:
        predicted, truth: instance numbers (D, H, W); 0 is background.
        spacing: mm (z, y, x).
        focal: match by centroids.

    Raises:
        ValueError: the maps differ in shape, or the spacing is not three positive numbers.
    """
    predicted, truth = _same_grid(predicted, truth)
    spacing = np.asarray(spacing, dtype=np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"Spacing {spacing.tolist()}: expected three positive numbers in mm (z, y, x).")
    limit = 2 * float(spacing.max())
    boxes_P, boxes_T = _boxes(predicted), _boxes(truth)
    distance_PT = np.full((len(boxes_P), len(boxes_T)), np.nan)
    for row, (name_P, box_P) in enumerate(boxes_P.items()):
        for column, (name_T, box_T) in enumerate(boxes_T.items()):
            # Both distances are at least the gap between the boxes along an axis: most pairs need no distance map.
            gap = max(
                (max(p.start, t.start) - min(p.stop, t.stop) + 1) * s
                for p, t, s in zip(box_P, box_T, spacing, strict=True)
            )
            if gap > limit:
                continue
            box = tuple(slice(min(p.start, t.start), max(p.stop, t.stop)) for p, t in zip(box_P, box_T, strict=True))
            pair = predicted[box] == name_P, truth[box] == name_T
            distance = centroid_distance_mm(*pair, spacing) if focal else surface_distances_mm(*pair, spacing)["assd"]
            if distance <= limit:
                distance_PT[row, column] = distance
    return _matched(1 - distance_PT / (limit + 1))


def _same_grid(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"Instances on grids {predicted.shape} and {truth.shape}: bring both on one grid first.")
    return predicted, truth


def _boxes(instances: np.ndarray) -> dict[int, tuple[slice, ...]]:
    """Bounding box of each instance."""
    boxes = find_objects(instances.astype(np.int64))
    return {number: box for number, box in enumerate(boxes, 1) if box is not None}


def _matched(quality_PT: np.ndarray) -> tuple[int, int, int]:
    """Counts of the best one-to-one assignment; quality is 0 to 1, NaN where two instances cannot be a pair."""
    # One more pair outweighs any gain in quality.
    gain_PT = np.where(np.isnan(quality_PT), 0, min(quality_PT.shape, default=0) + 1 + quality_PT)
    rows, columns = linear_sum_assignment(gain_PT, maximize=True)
    found = int((gain_PT[rows, columns] > 0).sum())
    return found, quality_PT.shape[0] - found, quality_PT.shape[1] - found


def instance_scores(found: float, false: float, missed: float, prefix: str = "instance") -> dict[str, float]:
    """``<prefix>_precision``, ``<prefix>_recall`` and ``<prefix>_f1`` from the counts over all cases.

    All are NaN if there are neither true nor predicted instances. Recall is NaN without true instances, precision is
    NaN without predicted ones; F1 is 0 in both cases.
    """
    precision = found / (found + false) if found + false else float("nan")
    recall = found / (found + missed) if found + missed else float("nan")
    some = 2 * found + false + missed
    return {
        f"{prefix}_precision": precision,
        f"{prefix}_recall": recall,
        f"{prefix}_f1": 2 * found / some if some else float("nan"),
    }
