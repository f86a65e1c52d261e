"""Image-to-image retrieval by labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctvlm.utils import check_choice


def image_map(image_NP: np.ndarray, labels_NC: np.ndarray, topk: Sequence[int], rule: str) -> dict[str, float]:
    """``MAP@k`` of volumes ranked by cosine similarity, under a published rule.

    - ``ct_clip``: mean Jaccard index between the labels of the query and of the first k volumes. All volumes are
      queries, the volumes with a finding are the gallery, and a query is not removed from the gallery. The published
      script does not reset its list between the values of k: each number is the mean over all k up to it, in the order
      given.
    - ``spectre``: a volume is relevant if all its labels equal the query's. AP is divided by min(k, relevant volumes).
      Queries without a relevant volume are excluded.
    - ``radfinder``: queries and gallery are the volumes with a finding; a volume is relevant if it shares one with the
      query. AP is divided by k.

    Args:
        labels_NC: 1 or 0.

    Returns:
        One number per k; NaN without a query.

    Raises:
        ValueError: the rule is unknown, or a label is not 1 or 0.
    """
    check_choice("image_map", "rule", rule, ("ct_clip", "spectre", "radfinder"))
    labels_NC = np.asarray(labels_NC)
    if not np.isin(labels_NC, (0, 1)).all():
        raise ValueError("Found labels other than 1 and 0. Exclude cases with unknown labels.")
    labels_NC = labels_NC.astype(np.float64)
    image_NP = np.asarray(image_NP, dtype=np.float64)
    if len(image_NP) == 0:
        return {f"MAP@{k}": float("nan") for k in topk}
    image_NP = image_NP / np.linalg.norm(image_NP, axis=1, keepdims=True)
    abnormal = labels_NC.sum(axis=1) > 0
    if rule == "ct_clip":
        return _jaccard(image_NP, labels_NC, abnormal, topk)
    if rule == "radfinder":
        image_NP, labels_NC = image_NP[abnormal], labels_NC[abnormal]
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
    return {f"MAP@{k}": float(np.mean(of_k)) if of_k else float("nan") for k, of_k in values.items()}


def _jaccard(
    image_NP: np.ndarray, labels_NC: np.ndarray, abnormal_N: np.ndarray, topk: Sequence[int]
) -> dict[str, float]:
    gallery_GP, gallery_labels_GC = image_NP[abnormal_N], labels_NC[abnormal_N]
    if len(gallery_GP) == 0:
        return {f"MAP@{k}": float("nan") for k in topk}
    sums = np.zeros(len(topk))
    for query_P, labels_C in zip(image_NP, labels_NC, strict=True):
        ranked_GC = gallery_labels_GC[np.argsort(-(gallery_GP @ query_P), kind="stable")]
        intersection, union = ranked_GC @ labels_C, np.maximum(ranked_GC, labels_C).sum(axis=1)
        sums += [(intersection[:k] / union[:k]).mean() for k in topk]
    means = np.cumsum(sums) / (np.arange(1, len(topk) + 1) * len(image_NP))
    return {f"MAP@{k}": float(value) for k, value in zip(topk, means, strict=True)}
