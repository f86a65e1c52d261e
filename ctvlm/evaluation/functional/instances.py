"""Lesion by lesion: which of several a mask finds."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label
from scipy.optimize import linear_sum_assignment


def connected_instances(mask: np.ndarray) -> np.ndarray:
    """Numbers of the connected parts of a mask (D, H, W), 0 outside; voxels that share a corner are connected."""
    return label(np.asarray(mask).astype(bool), structure=np.ones((3, 3, 3)))[0]


def instance_counts(predicted: np.ndarray, truth: np.ndarray, min_dice: float = 0.2) -> tuple[int, int, int]:
    """True positives, false positives and false negatives among two maps of instances (D, H, W; 0 is none).

    A predicted and a true instance can be a pair where their Dice is at least ``min_dice``, 0.2 in ReXGroundingCT
    (rexrank.ai/ReXGroundingCT). How pairs are chosen is not published; here each instance has at most one partner, and
    as many find one as can (of those choices the one of greatest Dice).

    Raises:
        ValueError: maps of different shapes.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"Instances on grids {predicted.shape} and {truth.shape}: bring both on one grid first.")
    names_P, sizes_P = np.unique(predicted[predicted > 0], return_counts=True)
    names_T, sizes_T = np.unique(truth[truth > 0], return_counts=True)
    both = (predicted > 0) & (truth > 0)
    overlap_PT = np.zeros((len(names_P), len(names_T)))
    np.add.at(overlap_PT, (np.searchsorted(names_P, predicted[both]), np.searchsorted(names_T, truth[both])), 1)
    dice_PT = 2 * overlap_PT / (sizes_P[:, None] + sizes_T[None, :])
    # A pair more outweighs any gain in Dice.
    gain_PT = np.where(dice_PT >= min_dice, min(dice_PT.shape, default=0) + 1 + dice_PT, 0)
    rows, columns = linear_sum_assignment(gain_PT, maximize=True)
    found = int((gain_PT[rows, columns] > 0).sum())
    return found, len(names_P) - found, len(names_T) - found


def instance_scores(found: float, false: float, missed: float) -> dict[str, float]:
    """Precision, recall and F1 of instances from their counts over all cases.

    All NaN without a true and a predicted instance; without a true one recall is NaN, without a predicted one precision
    is, and F1 is 0 in both cases.
    """
    precision = found / (found + false) if found + false else float("nan")
    recall = found / (found + missed) if found + missed else float("nan")
    some = 2 * found + false + missed
    return {
        "instance_precision": precision,
        "instance_recall": recall,
        "instance_f1": 2 * found / some if some else float("nan"),
    }
