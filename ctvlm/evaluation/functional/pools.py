"""Text-to-image retrieval in random pools (Merlin, SPECTRE, RadFinder)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctvlm.evaluation.functional.retrieval import retrieval_ranks


def pool_recall(
    query_NP: np.ndarray,
    gallery_NP: np.ndarray,
    pool_size: int,
    topk: Sequence[int] = (1, 8),
    repeats: int = 100,
    seed: int = 42,
    keep_rest: bool = False,
) -> dict[str, float]:
    """Mean ``R@k`` over random partitions into pools; query i belongs to gallery item i.

    Each repeat shuffles the pairs and divides them into pools. A query is ranked within its own pool, with ties in
    order. NaN with fewer pairs than the pool size.

    Args:
        query_NP, gallery_NP: unit vectors.
        keep_rest: use the last, smaller pool too (SPECTRE) instead of dropping it (RadFinder).
    """
    size = len(query_NP)
    if size < pool_size:
        return {f"R@{k}": float("nan") for k in topk}
    rng = np.random.default_rng(seed)
    recalls = []
    for _ in range(repeats):
        order = np.arange(size)
        rng.shuffle(order)
        end = size if keep_rest else size - size % pool_size
        pools = [order[start : start + pool_size] for start in range(0, end, pool_size)]
        ranks = np.concatenate(
            [
                retrieval_ranks(query_NP[pool], gallery_NP[pool], range(len(pool)), "strict", ties="order")
                for pool in pools
            ]
        )
        recalls.append([(ranks <= k).mean() for k in topk])
    return {f"R@{k}": float(value) for k, value in zip(topk, np.mean(recalls, axis=0), strict=True)}
