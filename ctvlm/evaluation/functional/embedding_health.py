"""Collapse, uniformity and modality gap of an embedding space."""

from __future__ import annotations

import numpy as np


def effective_rank(embeddings_NP: np.ndarray) -> float:
    """Effective number of dimensions: exp of the entropy of the normalised singular values after centring.

    Roy and Vetterli, "The effective rank", EUSIPCO 2007. Between 1 (one dimension) and min(N - 1, P); 0 if all
    embeddings are equal. NaN for fewer than two embeddings.
    """
    embeddings = _finite(embeddings_NP)
    if len(embeddings) < 2:
        return float("nan")
    singular = np.linalg.svd(embeddings - embeddings.mean(axis=0), compute_uv=False)
    # Centring leaves rounding errors in proportion to the size of the embeddings.
    singular = singular[singular > 1e-10 * max(1.0, np.abs(embeddings).max()) * np.sqrt(embeddings.size)]
    if len(singular) == 0:
        return 0.0
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def alignment(first_NP: np.ndarray, second_NP: np.ndarray) -> float:
    """Mean squared distance of N pairs after normalisation: 0 (equal) to 4 (opposite). NaN without pairs.

    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere", ICML 2020, with alpha = 2.
    """
    first, second = _unit(first_NP), _unit(second_NP)
    if first.shape != second.shape:
        raise ValueError(f"Embeddings have shapes {first.shape} and {second.shape}; expected equal shapes.")
    return float(((first - second) ** 2).sum(axis=1).mean()) if len(first) else float("nan")


def uniformity(embeddings_NP: np.ndarray) -> float:
    """Log of the mean of exp(-2 d^2) over all pairs i < j after normalisation; lower is more uniform.

    Wang and Isola, ICML 2020, with t = 2. 0 if all embeddings are equal; NaN for fewer than two.
    """
    embeddings = _unit(embeddings_NP)
    if len(embeddings) < 2:
        return float("nan")
    total, pairs = 0.0, len(embeddings) * (len(embeddings) - 1) / 2
    for i in range(len(embeddings) - 1):
        squared = ((embeddings[i + 1 :] - embeddings[i]) ** 2).sum(axis=1)
        total += float(np.exp(-2.0 * squared).sum())
    return float(np.log(total / pairs))


def modality_gap(first_NP: np.ndarray, second_MP: np.ndarray) -> float:
    """Distance between the mean normalised embeddings of two modalities, 0 to 2. NaN if either is empty.

    Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation Learning",
    NeurIPS 2022.
    """
    first, second = _unit(first_NP), _unit(second_MP)
    if not len(first) or not len(second):
        return float("nan")
    return float(np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)))


def _finite(embeddings_NP: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings_NP, dtype=np.float64)
    if embeddings.ndim != 2:
        raise ValueError(f"Embeddings have shape {embeddings.shape}; expected (N, P).")
    if not np.isfinite(embeddings).all():
        raise ValueError("Embeddings contain NaN or infinity. Check whether training diverged.")
    return embeddings


def _unit(embeddings_NP: np.ndarray) -> np.ndarray:
    embeddings = _finite(embeddings_NP)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if (norms == 0).any():
        raise ValueError(f"{int((norms == 0).sum())} embeddings are zero and cannot be normalised.")
    return embeddings / norms
