"""Whether what a reasoning step says is found in the patches of its own case."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import numpy as np
from scipy.special import softmax


def step_text_scores(text_SP: np.ndarray, patches_NP: np.ndarray, scale: float) -> np.ndarray:
    """Cosine between each text and the patches of one case, pooled by that text's attention (S).

    Args:
        text_SP, patches_NP: normalised embeddings; only patches that take part.
        scale: inverse temperature of the attention.

    Raises:
        ValueError: an embedding holds NaN or infinity.
    """
    if not (np.isfinite(text_SP).all() and np.isfinite(patches_NP).all()):
        raise ValueError("Embeddings of steps or patches hold NaN or infinity: did training diverge?")
    pooled_SP = softmax(scale * text_SP @ patches_NP.T, axis=1) @ patches_NP
    return (pooled_SP * text_SP).sum(axis=1) / np.maximum(np.linalg.norm(pooled_SP, axis=1), 1e-12)


def rival_cases(
    owners: Sequence[int], regions: Sequence[Hashable], findings: Sequence[Collection[str]], num_cases: int
) -> np.ndarray:
    """The cases that speak of the same regions as a step, and state none of its findings of them (S, C).

    Other words for the same are no rival: only what is found decides. A normal step has the finding that nothing is.

    Args:
        owners: number of the case of each step (S).
        regions: the regions that each step mentions, as a whole.
        findings: what each step finds there; empty for a normal step.
    """
    stated: dict[Hashable, dict[int, set[str]]] = {}
    named = [set(found) or {""} for found in findings]
    for owner, place, found in zip(owners, regions, named, strict=True):
        stated.setdefault(place, {}).setdefault(owner, set()).update(found)
    rivals_SC = np.zeros((len(named), num_cases), dtype=bool)
    for row, place, found in zip(rivals_SC, regions, named, strict=True):
        row[[case for case, theirs in stated[place].items() if not theirs & found]] = True
    return rivals_SC


def step_text_auc(scores_SC: np.ndarray, owners: Sequence[int], rivals_SC: np.ndarray) -> np.ndarray:
    """Probability that a step fits its own case better than a rival (S), ties one half; NaN without a rival."""
    own_S1 = scores_SC[np.arange(len(scores_SC)), np.asarray(owners, dtype=int)][:, None]
    won_SC = (own_S1 > scores_SC) + 0.5 * (own_S1 == scores_SC)
    count_S = rivals_SC.sum(axis=1)
    return np.where(count_S > 0, (won_SC * rivals_SC).sum(axis=1) / np.maximum(count_S, 1), np.nan)
