"""Agreement of texts, regions and attention within one case."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import scipy


def region_text_hits(
    text_SP: np.ndarray, region_RP: np.ndarray, region_mask_R: np.ndarray, mentions: Sequence[Collection[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Which texts of one case are most similar to a region that they mention.

    The candidates are the regions that are visible in the volume. A text that mentions none of them is not scored.

    Args:
        mentions: region ids (from 1) that each text mentions (S).

    Returns:
        Hits of the scored texts (bool), and the chance level of each: the share of the candidates that it mentions.
        A tie between a mentioned and another region is a miss.

    Raises:
        ValueError: an embedding contains NaN or infinity.
    """
    visible = np.flatnonzero(region_mask_R)
    if not (np.isfinite(text_SP).all() and np.isfinite(region_RP[visible]).all()):
        raise ValueError("Embeddings of texts or regions contain NaN or infinity. Check whether training diverged.")
    hits, chances = [], []
    for text_P, mentioned in zip(text_SP, mentions, strict=True):
        correct = np.isin(visible + 1, list(mentioned))
        if not correct.any():
            continue
        scores = region_RP[visible].astype(np.float64) @ text_P.astype(np.float64)
        best_wrong = scores[~correct].max() if (~correct).any() else -np.inf
        hits.append(bool(scores[correct].max() > best_wrong))
        chances.append(correct.mean())
    return np.array(hits, dtype=bool), np.array(chances, dtype=float)


def attention_spearman(attention_N: np.ndarray, occupancy_N: np.ndarray, mask_N: np.ndarray | None = None) -> float:
    """Spearman correlation between a step's attention and the share of each patch that its regions fill.

    Ties get mean ranks (scipy). NaN if either map is constant over the selected patches.

    Args:
        attention_N: attention of one step over patches.
        occupancy_N: share of each patch inside the mentioned regions (0 to 1).
        mask_N: patches to compare; all by default.
    """
    attention, occupancy = _patches(attention_N, occupancy_N, mask_N)
    if len(attention) < 2 or np.ptp(attention) == 0 or np.ptp(occupancy) == 0:
        return float("nan")
    return float(scipy.stats.spearmanr(attention, occupancy).statistic)


def attention_auroc(
    attention_N: np.ndarray, occupancy_N: np.ndarray, mask_N: np.ndarray | None = None, min_share: float = 0.0
) -> float:
    """Probability that a patch inside the mentioned regions gets more attention than one outside; a tie counts 0.5.

    A patch is inside if the regions fill more than ``min_share`` of it. NaN if all patches or no patches are inside.
    Constant attention scores 0.5.
    """
    from sklearn.metrics import roc_auc_score  # takes long to import

    attention, occupancy = _patches(attention_N, occupancy_N, mask_N)
    inside = occupancy > min_share
    if inside.all() or not inside.any():
        return float("nan")
    return float(roc_auc_score(inside, attention))


def pointing_game(
    attention_N: np.ndarray, occupancy_N: np.ndarray, mask_N: np.ndarray | None = None, min_share: float = 0.0
) -> tuple[float, float]:
    """Whether the patch with the highest attention is inside the mentioned regions (1 or 0), and its chance level.

    The pointing game of Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, on patches. If
    several patches share the maximum, all of them must be inside; constant attention is therefore a miss. Both values
    are NaN if all patches or no patches are inside.
    """
    attention, occupancy = _patches(attention_N, occupancy_N, mask_N)
    inside = occupancy > min_share
    if inside.all() or not inside.any():
        return float("nan"), float("nan")
    return float(inside[attention == attention.max()].all()), float(inside.mean())


def _patches(
    attention_N: np.ndarray, occupancy_N: np.ndarray, mask_N: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both maps in double precision over the selected patches, after checks."""
    if np.shape(attention_N) != np.shape(occupancy_N):
        raise ValueError(
            f"Attention has shape {np.shape(attention_N)}, occupancy has shape {np.shape(occupancy_N)}; expected one "
            "patch grid for both."
        )
    maps = [np.asarray(values, dtype=np.float64).ravel() for values in (attention_N, occupancy_N)]
    if mask_N is not None:
        keep = np.asarray(mask_N, dtype=bool).ravel()
        maps = [values[keep] for values in maps]
    if not all(np.isfinite(values).all() for values in maps):
        raise ValueError("Attention or occupancy contains NaN or infinity. Check the model's attention.")
    return maps[0], maps[1]
