"""How well regions and texts find each other inside a case."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score


def region_text_hits(
    text_SP: np.ndarray, region_RP: np.ndarray, region_mask_R: np.ndarray, mentions: list[Collection[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Which texts of one case have a region that they mention as their nearest.

    Only regions that the volume shows compete, and only texts that mention one of those count.

    Args:
        mentions: region ids (from 1) that each text mentions (S).

    Returns:
        Hits of the texts that count (bool), and the chance of each (share of the competing regions that it mentions).
        A tie between a mentioned and another region is a miss.
    """
    visible = np.flatnonzero(region_mask_R)
    if not (np.isfinite(text_SP).all() and np.isfinite(region_RP[visible]).all()):
        raise ValueError("Embeddings of texts or regions hold NaN or infinity: did training diverge?")
    hits, chances = [], []
    for text_P, mentioned in zip(text_SP, mentions, strict=True):
        right = np.isin(visible + 1, list(mentioned))
        if not right.any():
            continue
        scores = region_RP[visible].astype(np.float64) @ text_P.astype(np.float64)
        best_wrong = scores[~right].max() if (~right).any() else -np.inf
        hits.append(bool(scores[right].max() > best_wrong))
        chances.append(right.mean())
    return np.array(hits, dtype=bool), np.array(chances, dtype=float)


def attention_spearman(attention_N: np.ndarray, occupancy_N: np.ndarray, mask_N: np.ndarray | None = None) -> float:
    """Spearman correlation of a step's attention with the share of each patch that its regions fill.

    Ties get mean ranks (scipy). NaN where either is constant over the patches that count: no order to compare.

    Args:
        attention_N: attention of one step over patches.
        occupancy_N: share of each patch inside the mentioned regions (0 to 1).
        mask_N: patches that took part; all by default.
    """
    attention, occupancy = _patches(attention_N, occupancy_N, mask_N)
    if len(attention) < 2 or np.ptp(attention) == 0 or np.ptp(occupancy) == 0:
        return float("nan")
    return float(spearmanr(attention, occupancy).statistic)


def attention_auroc(
    attention_N: np.ndarray, occupancy_N: np.ndarray, mask_N: np.ndarray | None = None, min_share: float = 0.0
) -> float:
    """Probability that a patch of the mentioned regions gets more attention than another; ties count one half.

    A patch belongs to the regions where they fill more than ``min_share`` of it. NaN where all patches or none do.
    Constant attention scores 0.5.
    """
    attention, occupancy = _patches(attention_N, occupancy_N, mask_N)
    inside = occupancy > min_share
    if inside.all() or not inside.any():
        return float("nan")
    return float(roc_auc_score(inside, attention))


def pointing_game(
    attention_N: np.ndarray, occupancy_N: np.ndarray, mask_N: np.ndarray | None = None, min_share: float = 0.0
) -> tuple[float, float]:
    """Whether the patch with most attention lies in the mentioned regions (1 or 0), and the chance of that.

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, on patches. With several maxima all
    must lie inside, so that constant attention misses. Both NaN where all patches or none are inside.
    """
    attention, occupancy = _patches(attention_N, occupancy_N, mask_N)
    inside = occupancy > min_share
    if inside.all() or not inside.any():
        return float("nan"), float("nan")
    return float(inside[attention == attention.max()].all()), float(inside.mean())


def _patches(attention_N: np.ndarray, occupancy_N: np.ndarray, mask_N: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Both maps as doubles over the patches that count, checked."""
    if np.shape(attention_N) != np.shape(occupancy_N):
        raise ValueError(
            f"Attention of shape {np.shape(attention_N)} does not lie on the patches of an occupancy of shape "
            f"{np.shape(occupancy_N)}: give both on one patch grid."
        )
    maps = [np.asarray(values, dtype=np.float64).ravel() for values in (attention_N, occupancy_N)]
    if mask_N is not None:
        keep = np.asarray(mask_N, dtype=bool).ravel()
        maps = [values[keep] for values in maps]
    if not all(np.isfinite(values).all() for values in maps):
        raise ValueError("Attention or occupancy holds NaN or infinity: check the model's attention.")
    return tuple(maps)
