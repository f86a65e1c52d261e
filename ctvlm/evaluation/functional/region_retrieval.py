"""Retrieval of a region's volume by what the report says of it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from ctvlm.evaluation.functional.retrieval import Duplicates, retrieval_ranks


def region_retrieval_ranks(
    text_MP: np.ndarray,
    region_MP: np.ndarray,
    regions: Sequence[int],
    texts: Sequence[Hashable],
    duplicates: Duplicates = "hit",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank of each mention's own region feature among the same region of all cases.

    Args:
        text_MP: embedding of what each case says of a region (M mentions).
        region_MP: feature of that region in that case.
        regions: region id of each mention.
        texts: the words of each mention, for duplicates as in ``retrieval_ranks``.

    Returns:
        For the mentions that count: their index (M'), rank (M') and gallery size (M'). A region that a single
        mention (or, with duplicates, a single text) represents has nothing to choose from and does not count.
    """
    regions = np.asarray(regions, dtype=int)
    kept, ranks, sizes = [], [], []
    for region in np.unique(regions):
        index = np.flatnonzero(regions == region)
        names = [str(texts[i]) for i in index]
        if duplicates == "first":
            index = index[np.sort(np.unique(names, return_index=True)[1])]
            names = [str(texts[i]) for i in index]
        if len(index) < 2 or (duplicates == "hit" and len(set(names)) < 2):
            continue
        kept.append(index)
        ranks.append(retrieval_ranks(text_MP[index], region_MP[index], names, duplicates))
        sizes.append(np.full(len(index), len(index)))
    if not kept:
        return (np.zeros(0, dtype=int),) * 3
    return np.concatenate(kept), np.concatenate(ranks), np.concatenate(sizes)


def summarise_region_ranks(ranks: np.ndarray, sizes: np.ndarray, regions: np.ndarray) -> dict[str, float]:
    """``R@1`` and ``MRR`` as the mean over regions of each region's mean, and their chance; NaN without ranks.

    Galleries differ in size from region to region, so that recall is also given as the mean percentile
    ``(size - rank) / (size - 1)``: 1 is best, 0.5 is chance.
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
