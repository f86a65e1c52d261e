"""Instance-level scores of lesion masks, with one-to-one matching of predicted and true lesions."""

from __future__ import annotations

import numpy as np
import scipy
from scipy.ndimage import find_objects, generate_binary_structure, label

from ctvlm.evaluation.functional.localisation import (
    Spacing,
    centroid_distance_mm,
    checked_spacing,
    surface_distances_mm,
)


def connected_instances(mask: np.ndarray, min_voxels: int = 1) -> np.ndarray:
    """Label the connected components of a mask (D, H, W) with 1, 2, ...; 0 is background.

    Voxels that share a face or an edge are connected (18 neighbours), as in ReXGroundingCT's scorer.

    Args:
        min_voxels: remove smaller components. ReXGroundingCT removes predicted components below 10 voxels.
    """
    components, number = label(np.asarray(mask).astype(bool), structure=generate_binary_structure(3, 2))
    sizes = np.bincount(components.ravel(), minlength=number + 1)
    keep = sizes >= min_voxels
    keep[0] = False
    return (np.cumsum(keep) * keep)[components]


def instance_counts(predicted: np.ndarray, truth: np.ndarray, min_dice: float = 0.2) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of two instance maps, matched by Dice.

    A predicted and a true instance can form a pair if their Dice is at least ``min_dice``, 0.2 in ReXGroundingCT
    (rexrank.ai/ReXGroundingCT). Each instance is in at most one pair. The assignment maximises the number of pairs,
    then the sum of Dice.

    Args:
        predicted, truth: instance labels (D, H, W); 0 is background.

    Raises:
        ValueError: the maps differ in shape.
    """
    predicted, truth = _same_grid(predicted, truth)
    labels_P, sizes_P = np.unique(predicted[predicted > 0], return_counts=True)
    labels_T, sizes_T = np.unique(truth[truth > 0], return_counts=True)
    both = (predicted > 0) & (truth > 0)
    overlap_PT = np.zeros((len(labels_P), len(labels_T)))
    np.add.at(overlap_PT, (np.searchsorted(labels_P, predicted[both]), np.searchsorted(labels_T, truth[both])), 1)
    dice_PT = 2 * overlap_PT / (sizes_P[:, None] + sizes_T[None, :])
    return _match_counts(np.where(dice_PT >= min_dice, dice_PT, np.nan))


def instance_counts_by_distance(
    predicted: np.ndarray, truth: np.ndarray, spacing: Spacing, focal: bool = False
) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of two instance maps, matched by distance.

    A predicted and a true instance can form a pair if their distance is at most twice the largest voxel spacing. The
    distance is the centroid distance for a focal finding, otherwise the average symmetric surface distance (ASSD).
    Each instance is in at most one pair. The assignment maximises the number of pairs, then minimises the sum of
    distances. Distances and limit follow ReXGroundingCT's scorer; the one-to-one matching is our interpretation.

    Args:
        predicted, truth: instance labels (D, H, W); 0 is background.
        spacing: mm (z, y, x).
        focal: use the distance of the centroids.

    Raises:
        ValueError: the maps differ in shape, or the spacing is not three positive numbers.
    """
    predicted, truth = _same_grid(predicted, truth)
    spacing_mm = checked_spacing(spacing)
    limit = 2 * float(spacing_mm.max())
    boxes_P, boxes_T = _boxes(predicted), _boxes(truth)
    distance_PT = np.full((len(boxes_P), len(boxes_T)), np.nan)
    for row, (label_P, box_P) in enumerate(boxes_P.items()):
        for column, (label_T, box_T) in enumerate(boxes_T.items()):
            # Both distances are at least the gap between the boxes along an axis, so most pairs need no distance map.
            gap = max(
                (max(p.start, t.start) - min(p.stop, t.stop) + 1) * s
                for p, t, s in zip(box_P, box_T, spacing_mm, strict=True)
            )
            if gap > limit:
                continue
            box = tuple(slice(min(p.start, t.start), max(p.stop, t.stop)) for p, t in zip(box_P, box_T, strict=True))
            pair = predicted[box] == label_P, truth[box] == label_T
            if focal:
                distance = centroid_distance_mm(*pair, spacing_mm)
            else:
                distance = surface_distances_mm(*pair, spacing_mm)["assd"]
            if distance <= limit:
                distance_PT[row, column] = distance
    return _match_counts(1 - distance_PT / (limit + 1))


def _same_grid(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"Instance maps have shapes {predicted.shape} and {truth.shape}; expected one grid.")
    return predicted, truth


def _boxes(instances: np.ndarray) -> dict[int, tuple[slice, ...]]:
    """Label to bounding box of each instance."""
    boxes = find_objects(instances.astype(np.int64))
    return {number: box for number, box in enumerate(boxes, 1) if box is not None}


def _match_counts(quality_PT: np.ndarray) -> tuple[int, int, int]:
    """TP, FP and FN of the best one-to-one assignment; quality is 0 to 1, NaN if two instances cannot form a pair."""
    # An additional pair outweighs any gain in quality.
    gain_PT = np.where(np.isnan(quality_PT), 0, min(quality_PT.shape, default=0) + 1 + quality_PT)
    rows, columns = scipy.optimize.linear_sum_assignment(gain_PT, maximize=True)
    tp = int((gain_PT[rows, columns] > 0).sum())
    return tp, quality_PT.shape[0] - tp, quality_PT.shape[1] - tp


def instance_scores(tp: float, fp: float, fn: float, prefix: str = "instance") -> dict[str, float]:
    """``<prefix>_precision``, ``<prefix>_recall`` and ``<prefix>_f1`` from the counts over all cases.

    All are NaN without true and predicted instances. Recall is NaN without true instances, precision is NaN without
    predicted ones; F1 is 0 in both cases.
    """
    precision = tp / (tp + fp) if tp + fp else float("nan")
    recall = tp / (tp + fn) if tp + fn else float("nan")
    total = 2 * tp + fp + fn
    return {
        f"{prefix}_precision": precision,
        f"{prefix}_recall": recall,
        f"{prefix}_f1": 2 * tp / total if total else float("nan"),
    }
