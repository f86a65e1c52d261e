"""How well regions and texts find each other inside a case."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


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
