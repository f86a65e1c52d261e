"""Zero-shot probabilities of findings from the similarity of volumes and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ctvlm.text.prompts import Phrases, Template, prompt_pairs


def prompt_embeddings(
    name: str, templates: Sequence[Template], embeddings: Mapping[str, np.ndarray], phrases: Phrases | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of "present" and of "absent" (P): normalised means of the normalised embeddings of all templates.

    Raises:
        ValueError: a prompt has no embedding.
    """
    sides = []
    for texts in zip(*prompt_pairs(name, templates, phrases), strict=True):
        missing = [text for text in texts if text not in embeddings]
        if missing:
            raise ValueError(f"No embedding of the prompt {missing[0]!r} among {len(embeddings)} embeddings.")
        units = [_unit(np.asarray(embeddings[text], dtype=np.float64)) for text in texts]
        sides.append(_unit(np.mean(units, axis=0)))
    return sides[0], sides[1]


def zero_shot_probabilities(
    image_NP: np.ndarray, present_CP: np.ndarray, absent_CP: np.ndarray, scale: float = 1.0
) -> np.ndarray:
    """Probability that each finding is present (N, C): softmax over the two cosines, times ``scale``.

    The scale (the model's logit scale) has no effect on AUROC, AP and thresholds fitted to the scores. It affects fixed
    thresholds other than 0.5, CT-CLIP's grid of thresholds, and calibration.
    """
    image = np.asarray(image_NP, dtype=np.float64)
    image = image / np.linalg.norm(image, axis=1, keepdims=True)
    margin = scale * (image @ (np.asarray(present_CP) - np.asarray(absent_CP)).T.astype(np.float64))
    # exp(m) / (1 + exp(m)) would overflow for a large scale.
    return 0.5 * (1.0 + np.tanh(margin / 2.0))


def _unit(vector_P: np.ndarray) -> np.ndarray:
    return vector_P / np.linalg.norm(vector_P)
