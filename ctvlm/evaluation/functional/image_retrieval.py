"""Image-to-image retrieval: whether similar volumes have similar labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def image_map(image_NP: np.ndarray, labels_NC: np.ndarray, topk: Sequence[int], rule: str) -> dict[str, float]:
    """``MAP@k`` of volumes ranked by cosine, under a published rule.

    - ``ct_clip``: mean Jaccard index of the labels of the first k. All volumes query, those with a finding are the
      gallery, and a query finds itself first. The published script does not reset its list between the values of k:
      each number is the mean over all k up to it, in the order given.
    - ``spectre``: a volume is relevant if all labels are equal. AP is divided by min(k, relevant volumes). Queries
      without a relevant volume do not count.
    - ``radfinder``: queries and gallery are the volumes with a finding; a volume is relevant if it shares one. AP is
      divided by k.

    Args:
        labels_NC: 1 and 0.

    Returns:
        One number per k; NaN without a query that counts.

    Raises:
        ValueError: an unknown rule, or labels other than 1 and 0.
    """
    labels_NC = np.asarray(labels_NC)
    if not np.isin(labels_NC, (0, 1)).all():
        raise ValueError("Image-to-image retrieval needs labels of 1 and 0: leave out cases with unknown labels.")
    labels_NC = labels_NC.astype(np.float64)
    image_NP = np.asarray(image_NP, dtype=np.float64)
    if len(image_NP) == 0:
        return {f"MAP@{k}": float("nan") for k in topk}
    image_NP = image_NP / np.linalg.norm(image_NP, axis=1, keepdims=True)
    abnormal = labels_NC.any(axis=1)
    if rule == "ct_clip":
        return _jaccard(image_NP, labels_NC, abnormal, topk)
    if rule == "radfinder":
        image_NP, labels_NC = image_NP[abnormal], labels_NC[abnormal]
    elif rule != "spectre":
        raise ValueError(f"Unknown rule {rule!r}: expected 'ct_clip', 'spectre' or 'radfinder'.")
    values: dict[int, list[float]] = {k: [] for k in topk}
    for i in range(len(image_NP)):
        scores = image_NP @ image_NP[i]
        scores[i] = -np.inf
        if rule == "spectre":
            relevant, order = (labels_NC == labels_NC[i]).all(axis=1), np.argsort(-scores, kind="stable")
            relevant[i] = False
        else:
            relevant, order = labels_NC @ labels_NC[i] > 0, np.argsort(scores, kind="stable")[::-1]
        if rule == "spectre" and not relevant.any():
            continue
        hits = relevant[order]
        gains = hits * np.cumsum(hits) / np.arange(1, len(hits) + 1)
        for k in topk:
            values[k].append(gains[:k].sum() / (min(k, relevant.sum()) if rule == "spectre" else k))
    return {f"MAP@{k}": float(np.mean(found)) if found else float("nan") for k, found in values.items()}


def _jaccard(
    image_NP: np.ndarray, labels_NC: np.ndarray, abnormal_N: np.ndarray, topk: Sequence[int]
) -> dict[str, float]:
    gallery_GP, theirs_GC = image_NP[abnormal_N], labels_NC[abnormal_N]
    if len(gallery_GP) == 0:
        return {f"MAP@{k}": float("nan") for k in topk}
    sums = np.zeros(len(topk))
    for vector, own in zip(image_NP, labels_NC, strict=True):
        order = np.argsort(-(gallery_GP @ vector), kind="stable")
        both, either = theirs_GC[order] @ own, np.maximum(theirs_GC[order], own).sum(axis=1)
        sums += [(both[:k] / either[:k]).mean() for k in topk]
    means = np.cumsum(sums) / (np.arange(1, len(topk) + 1) * len(image_NP))
    return {f"MAP@{k}": float(value) for k, value in zip(topk, means, strict=True)}
