"""Whether a volume fits a sentence or its opposite."""

from __future__ import annotations

import numpy as np


def opposite_hits(volume_P: np.ndarray, text_O2P: np.ndarray) -> np.ndarray:
    """1 where a volume is more similar to a sentence than to its opposite, 1/2 for a tie, else 0 (O).

    Args:
        volume_P: embedding of any length above 0.
        text_O2P: normalised embeddings of the sentences and of their opposites.

    Raises:
        ValueError: an embedding contains NaN or infinity.
    """
    if not (np.isfinite(volume_P).all() and np.isfinite(text_O2P).all()):
        raise ValueError("Embeddings of volumes or texts contain NaN or infinity. Check whether training diverged.")
    score_O2 = text_O2P.astype(np.float64) @ volume_P.astype(np.float64)
    return (np.sign(score_O2[:, 0] - score_O2[:, 1]) + 1) / 2
