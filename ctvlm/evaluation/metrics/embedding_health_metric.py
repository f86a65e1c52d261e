"""Collapse, uniformity and modality gap of the shared embedding space."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.embedding_health import alignment, effective_rank, modality_gap, uniformity
from ctvlm.evaluation.metrics.case_metric import CaseMetric, has_text, to_array
from ctvlm.registry import METRICS

_NAMES = (
    "image_effective_rank",
    "text_effective_rank",
    "image_uniformity",
    "text_uniformity",
    "alignment",
    "modality_gap",
)


@METRICS.register_module()
class EmbeddingHealthMetric(CaseMetric):
    """Effective rank and uniformity of volume and impression embeddings, their alignment and modality gap.

    Reads ``impression``, ``pred_volume`` (P) and ``pred_impression`` (P). Cases without an impression are excluded;
    ``num_cases`` counts the others. See ``functional.embedding_health`` for definitions. Intervals are not computed,
    because repeated cases in a resample have the same effect as collapse.
    """

    default_prefix = "embedding"
    needs = frozenset({"impression", "pred_volume", "pred_impression"})

    def record(self, sample: dict) -> dict[str, Any] | None:
        if not has_text(sample["impression"]):
            return None
        return {"image": to_array(sample["pred_volume"]), "text": to_array(sample["pred_impression"])}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        if not cases:
            return {**dict.fromkeys(_NAMES, float("nan")), "num_cases": 0}
        image_NP, text_NP = (np.stack([case[key] for case in cases]) for key in ("image", "text"))
        values = (
            effective_rank(image_NP),
            effective_rank(text_NP),
            uniformity(image_NP),
            uniformity(text_NP),
            alignment(image_NP, text_NP),
            modality_gap(image_NP, text_NP),
        )
        return {**dict(zip(_NAMES, values, strict=True)), "num_cases": len(cases)}
