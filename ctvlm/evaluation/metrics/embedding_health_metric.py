"""Health of the shared embedding space."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.embedding_health import alignment, effective_rank, modality_gap, uniformity
from ctvlm.evaluation.metrics.case_metric import CaseMetric, says_something, to_array
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
    """Effective rank and uniformity of images and impressions, their alignment and the gap between them.

    Reads ``impression``, ``pred_volume`` (P) and ``pred_impression`` (P). A case without an impression is left out;
    ``num_cases`` counts the others. Definitions in ``functional.embedding_health``. Without
    intervals: a resample repeats cases, which is what collapse looks like.
    """

    default_prefix = "embedding"
    needs = frozenset({"impression", "pred_volume", "pred_impression"})

    def record(self, sample: dict) -> dict[str, Any] | None:
        if not says_something(sample["impression"]):
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
