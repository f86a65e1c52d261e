"""Cross-modal retrieval on paired embeddings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
import scipy

from ctvlm.utils import check_choice

Duplicates = Literal["hit", "first", "strict"]
Ties = Literal["pessimistic", "order"]

# Rows of the score matrix in memory at a time: 25,000 x 25,000 doubles would need 5 GB.
_CHUNK = 1024
_NOT_FINITE = "Retrieval scores contain NaN or infinity. Check whether training diverged."


def pessimistic_ranks(scores_QG: np.ndarray, positives_QG: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Rank (from 1) of each query's best positive, with ties ranked after all tied negatives (Q).

    The rank of constant scores is therefore the last.

    Args:
        tolerance: scores that differ by no more than this are tied.

    Raises:
        ValueError: a score is not finite, or a query has no positive.
    """
    if not np.isfinite(scores_QG).all():
        raise ValueError(_NOT_FINITE)
    if not positives_QG.any(axis=1).all():
        query = int(np.flatnonzero(~positives_QG.any(axis=1))[0])
        raise ValueError(f"Query {query} has no positive in the gallery; expected at least one.")
    best = np.where(positives_QG, scores_QG, -np.inf).max(axis=1) - tolerance
    return 1 + ((scores_QG >= best[:, None]) & ~positives_QG).sum(axis=1)


def ordered_ranks(scores_QG: np.ndarray, positives_QG: np.ndarray) -> np.ndarray:
    """Rank (from 1) of each query's best positive, with ties in the order of the gallery (Q).

    With constant scores, query i of a paired set has rank i + 1.
    """
    order_QG = np.argsort(-scores_QG, axis=1, kind="stable")
    return 1 + np.take_along_axis(positives_QG, order_QG, axis=1).argmax(axis=1)


def text_groups(texts: Sequence[Hashable]) -> np.ndarray:
    """Group number of each text (N); identical texts have the same number."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(str(text), len(numbers)) for text in texts], dtype=int)


def first_of_each(groups: np.ndarray) -> np.ndarray:
    """Index of the first member of each group, in order."""
    return np.sort(np.unique(groups, return_index=True)[1])


def retrieval_ranks(
    query_NP: np.ndarray,
    gallery_NP: np.ndarray,
    texts: Sequence[Hashable],
    duplicates: Duplicates = "hit",
    ties: Ties = "pessimistic",
) -> np.ndarray:
    """Ranks of N paired embeddings; query i belongs to gallery item i.

    The score is the dot product; normalise the embeddings for cosine similarity.

    Args:
        texts: text of each pair; pairs with equal texts are duplicates.
        duplicates: ``hit`` accepts any gallery item with the same text; ``first`` keeps only the first pair of each
            text; ``strict`` accepts only the pair itself, as in the scripts of CT-CLIP and SPECTRE.
        ties: ``pessimistic`` ranks the positive after all tied negatives; ``order`` ranks equal scores in the order of
            the gallery, as in CT-CLIP's script.

    Raises:
        ValueError: ``duplicates`` is unknown, the lengths differ, or a score is not finite.
    """
    check_choice("retrieval_ranks", "duplicates", duplicates, ("hit", "first", "strict"))
    if not len(query_NP) == len(gallery_NP) == len(texts):
        raise ValueError(
            f"Found {len(query_NP)} queries, {len(gallery_NP)} gallery items and {len(texts)} texts; expected equal "
            "numbers."
        )
    group = text_groups(texts)
    if duplicates == "first":
        keep = first_of_each(group)
        query_NP, gallery_NP, group = query_NP[keep], gallery_NP[keep], group[keep]
    if duplicates == "strict":
        group = np.arange(len(group))
    if len(group) == 0:
        return np.zeros(0, dtype=int)
    query_NP, gallery_NP = query_NP.astype(np.float64), gallery_NP.astype(np.float64)
    # A matrix product sums in a different order near its edges, so that equal embeddings differ by rounding errors.
    largest = np.linalg.norm(query_NP, axis=1).max() * np.linalg.norm(gallery_NP, axis=1).max()
    tolerance = 1e-12 * largest if np.isfinite(largest) else 0.0
    # For the same reason each distinct gallery item is scored once; its copies then tie exactly.
    unique_UP, copy_G = np.unique(gallery_NP, axis=0, return_inverse=True)
    parts = []
    for rows in np.split(np.arange(len(group)), range(_CHUNK, len(group), _CHUNK)):
        positives = group[rows, None] == group[None, :]
        if ties == "order":
            if not np.isfinite(largest):
                raise ValueError(_NOT_FINITE)
            parts.append(ordered_ranks((query_NP[rows] @ unique_UP.T)[:, copy_G.ravel()], positives))
        else:
            parts.append(pessimistic_ranks(query_NP[rows] @ gallery_NP.T, positives, tolerance))
    return np.concatenate(parts)


def summarise_ranks(
    ranks: np.ndarray, topk: Sequence[int] = (1, 5, 10, 50, 100), gallery_size: int | None = None
) -> dict[str, float]:
    """``R@k`` (fraction of ranks <= k), ``MedR`` (median rank) and ``MRR`` (mean reciprocal rank).

    All NaN without ranks. With ``gallery_size``, ``R@k`` is NaN if the gallery has no more than k items, because any
    model would score 1.
    """
    if len(ranks) == 0:
        return {name: float("nan") for name in (*(f"R@{k}" for k in topk), "MedR", "MRR")}
    summary = {
        f"R@{k}": float("nan") if gallery_size is not None and k >= gallery_size else float((ranks <= k).mean())
        for k in topk
    }
    return {**summary, "MedR": float(np.median(ranks)), "MRR": float((1.0 / ranks).mean())}


def chance_recall(
    texts: Sequence[Hashable], topk: Sequence[int] = (1, 5, 10, 50, 100), duplicates: Duplicates = "hit"
) -> dict[str, float]:
    """Expected ``R@k`` of a random order of the gallery; NaN if the gallery has no more than k items.

    A query with m positives among N items is a hit with probability 1 - C(N - m, k) / C(N, k).
    """
    groups = text_groups(texts)
    if duplicates == "first":
        groups = groups[first_of_each(groups)]
    size = len(groups)
    positives = np.bincount(groups, minlength=1)[groups] if duplicates == "hit" else np.ones(size, dtype=int)
    return {
        f"R@{k}": float("nan") if k >= size else float(scipy.stats.hypergeom.sf(0, size, positives, k).mean())
        for k in topk
    }
