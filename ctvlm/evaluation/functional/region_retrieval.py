"""Retrieval of regions by the texts that mention them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctvlm.evaluation.functional.retrieval import retrieval_ranks


def region_retrieval_ranks(
    text_MP: np.ndarray, region_MP: np.ndarray, regions: Sequence[int] | np.ndarray, texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank of each mention's own region feature among the features of the same region of all cases.

    Args:
        text_MP: embedding of the text of each mention, a pair of case and region (M mentions).
        region_MP: feature of that region in that case.
        regions: region id of each mention.
        texts: text of each mention. The region of any mention with the same text is correct.

    Returns:
        Index (M'), rank (M') and gallery size (M') of the scored mentions. Regions with fewer than two different texts
        are excluded.
    """
    region_M = np.asarray(regions, dtype=int)
    scored, ranks, sizes = [], [], []
    for region in sorted(set(region_M.tolist())):
        index = np.flatnonzero(region_M == region)
        own_texts = [texts[i] for i in index.tolist()]
        if len(set(own_texts)) < 2:
            continue
        scored.append(index)
        ranks.append(retrieval_ranks(text_MP[index], region_MP[index], own_texts))
        sizes.append(np.full(len(index), len(index)))
    if not scored:
        empty = np.zeros(0, dtype=int)
        return empty, empty, empty
    return np.concatenate(scored), np.concatenate(ranks), np.concatenate(sizes)


def summarise_region_ranks(ranks: np.ndarray, sizes: np.ndarray, regions: np.ndarray) -> dict[str, float]:
    """``R@1``, its chance level, ``MRR`` and ``percentile``, each averaged over regions; NaN without ranks.

    The galleries of regions differ in size. ``percentile`` is the mean of ``(size - rank) / (size - 1)``, which does
    not depend on it: 1 is best, 0.5 is chance.
    """
    if len(ranks) == 0:
        return {"R@1": float("nan"), "R@1_chance": float("nan"), "MRR": float("nan"), "percentile": float("nan")}

    def macro(values: np.ndarray) -> float:
        return float(np.mean([values[regions == region].mean() for region in np.unique(regions)]))

    return {
        "R@1": macro((ranks == 1).astype(float)),
        "R@1_chance": macro(1.0 / sizes),
        "MRR": macro(1.0 / ranks),
        "percentile": macro((sizes - ranks) / (sizes - 1)),
    }
