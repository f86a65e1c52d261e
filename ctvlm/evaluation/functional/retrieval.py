"""Cross-modal retrieval on paired embeddings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

Duplicates = Literal["hit", "first", "strict"]


def pessimistic_ranks(scores_QG: np.ndarray, positives_QG: np.ndarray) -> np.ndarray:
    """Rank (from 1) of each query's best positive; every tie with a negative counts against it (Q).

    Constant scores therefore rank last, never first.

    Raises:
        ValueError: for scores that are not finite, or a query without a positive.
    """
    if not np.isfinite(scores_QG).all():
        raise ValueError("Retrieval scores hold NaN or infinity: check the embeddings (did training diverge?).")
    if not positives_QG.any(axis=1).all():
        query = int(np.flatnonzero(~positives_QG.any(axis=1))[0])
        raise ValueError(f"Query {query} has no positive in the gallery: every query needs at least one.")
    best = np.where(positives_QG, scores_QG, -np.inf).max(axis=1)
    return 1 + ((scores_QG >= best[:, None]) & ~positives_QG).sum(axis=1)


def retrieval_ranks(
    query_NP: np.ndarray, gallery_NP: np.ndarray, texts: Sequence[Hashable], duplicates: Duplicates = "hit"
) -> np.ndarray:
    """Ranks of N paired embeddings, query i belonging to gallery item i.

    Args:
        texts: the text of each pair; equal texts are duplicates.
        duplicates: ``hit`` counts any gallery item with the same text as right; ``first`` keeps the first pair
            of each text only; ``strict`` accepts nothing but the pair itself.

    Raises:
        ValueError: for an unknown ``duplicates`` or lengths that differ.
    """
    if duplicates not in ("hit", "first", "strict"):
        raise ValueError(f"Unknown duplicates={duplicates!r}: expected 'hit', 'first' or 'strict'.")
    if not len(query_NP) == len(gallery_NP) == len(texts):
        raise ValueError(f"Lengths differ: {len(query_NP)} queries, {len(gallery_NP)} items, {len(texts)} texts.")
    group = np.unique(np.array([str(text) for text in texts]), return_inverse=True)[1]
    if duplicates == "first":
        keep = np.sort(np.unique(group, return_index=True)[1])
        query_NP, gallery_NP, group = query_NP[keep], gallery_NP[keep], group[keep]
    positives = group[:, None] == group[None, :] if duplicates == "hit" else np.eye(len(group), dtype=bool)
    # In double precision, so that equal embeddings tie exactly whatever the order of the sum.
    return pessimistic_ranks(query_NP.astype(np.float64) @ gallery_NP.astype(np.float64).T, positives)


def summarise_ranks(ranks: np.ndarray, topk: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """``R@k`` (fraction of ranks <= k), ``MedR`` (median rank) and ``MRR`` (mean reciprocal rank)."""
    summary = {f"R@{k}": float((ranks <= k).mean()) for k in topk}
    return {**summary, "MedR": float(np.median(ranks)), "MRR": float((1.0 / ranks).mean())}
