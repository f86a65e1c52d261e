"""Probability of a finding from the similarity of an image to sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Template = tuple[str, str]


def prompt_texts(names: Sequence[str], templates: Sequence[Template]) -> list[str]:
    """Every sentence the templates make of the findings, each once, in order."""
    texts = [text.format(name) for name in names for template in templates for text in template]
    return list(dict.fromkeys(texts))


def prompt_embeddings(
    name: str, templates: Sequence[Template], embeddings: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Direction of "present" and of "absent" (P): mean of the templates' unit embeddings, made a unit vector again.

    Raises:
        ValueError: for a sentence without an embedding.
    """
    sides = []
    for side in (0, 1):
        texts = [template[side].format(name) for template in templates]
        missing = [text for text in texts if text not in embeddings]
        if missing:
            raise ValueError(f"No embedding of the prompt {missing[0]!r}: {len(embeddings)} others are there.")
        units = [_unit(np.asarray(embeddings[text], dtype=np.float64)) for text in texts]
        sides.append(_unit(np.mean(units, axis=0)))
    return sides[0], sides[1]


def zero_shot_probabilities(
    image_NP: np.ndarray, present_CP: np.ndarray, absent_CP: np.ndarray, scale: float = 1.0
) -> np.ndarray:
    """Probability that each finding is present (N, C): softmax over the two cosines, times ``scale``.

    The scale (the model's logit scale) leaves AUROC, AP and thresholds chosen from data alone; it matters for fixed
    thresholds other than 0.5 and for calibration.
    """
    image = np.asarray(image_NP, dtype=np.float64)
    image = image / np.linalg.norm(image, axis=1, keepdims=True)
    margin = scale * (image @ (np.asarray(present_CP) - np.asarray(absent_CP)).T.astype(np.float64))
    # Not exp(m) / (1 + exp(m)): it overflows for a large scale.
    return 0.5 * (1.0 + np.tanh(margin / 2.0))


def _unit(vector_P: np.ndarray) -> np.ndarray:
    return vector_P / np.linalg.norm(vector_P)
