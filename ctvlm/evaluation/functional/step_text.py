"""Agreement of reasoning steps with the patches of their case."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import numpy as np
from scipy.special import softmax


def step_text_scores(text_SP: np.ndarray, patches_NP: np.ndarray, scale: float) -> np.ndarray:
    """Cosine similarity between each text and the patches of one case, pooled by the text's attention (S).

    Args:
        text_SP, patches_NP: normalised embeddings, without masked patches.
        scale: inverse temperature of the attention.

    Raises:
        ValueError: an embedding contains NaN or infinity.
    """
    if not (np.isfinite(text_SP).all() and np.isfinite(patches_NP).all()):
        raise ValueError("Embeddings of steps or patches contain NaN or infinity. Check whether training diverged.")
    pooled_SP = softmax(scale * text_SP @ patches_NP.T, axis=1) @ patches_NP
    return (pooled_SP * text_SP).sum(axis=1) / np.maximum(np.linalg.norm(pooled_SP, axis=1), 1e-12)


def rival_cases(
    owners: Sequence[int] | np.ndarray,
    regions: Sequence[Hashable],
    findings: Sequence[Collection[str]],
    num_cases: int,
) -> np.ndarray:
    """Mask of the cases with a step on the same regions as a step, but without any of its findings (S, C).

    Only the findings are compared, not the wording. Normal steps share one finding of their own.

    Args:
        owners: index of the case of each step (S).
        regions: regions that each step mentions, as one hashable value.
        findings: findings of each step; empty for a normal step.
    """
    findings_at: dict[Hashable, dict[int, set[str]]] = {}
    findings_of = [set(names) or {""} for names in findings]
    for owner, mentioned, names in zip(owners, regions, findings_of, strict=True):
        findings_at.setdefault(mentioned, {}).setdefault(owner, set()).update(names)
    rivals_SC = np.zeros((len(findings_of), num_cases), dtype=bool)
    for row, mentioned, names in zip(rivals_SC, regions, findings_of, strict=True):
        row[[case for case, others in findings_at[mentioned].items() if not others & names]] = True
    return rivals_SC


def step_text_auc(scores_SC: np.ndarray, owners: Sequence[int] | np.ndarray, rivals_SC: np.ndarray) -> np.ndarray:
    """Probability that a step scores higher on its own case than on a rival (S); ties count 0.5, NaN without rivals."""
    own_S1 = scores_SC[np.arange(len(scores_SC)), np.asarray(owners, dtype=int)][:, None]
    won_SC = (own_S1 > scores_SC) + 0.5 * (own_S1 == scores_SC)
    count_S = rivals_SC.sum(axis=1)
    return np.where(count_S > 0, (won_SC * rivals_SC).sum(axis=1) / np.maximum(count_S, 1), np.nan)
