"""Text-to-image retrieval in random pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.pools import pool_recall
from ctvlm.evaluation.functional.retrieval_protocols import get_retrieval_protocol
from ctvlm.evaluation.functional.studies import STUDY_KEYS, one_per_study, represents_study, study_of
from ctvlm.evaluation.metrics.case_metric import CaseMetric, has_text, to_array
from ctvlm.registry import METRICS

_TOPK = (1, 8)


@METRICS.register_module()
class PoolRetrievalMetric(CaseMetric):
    """Text-to-volume recall at 1 and 8 within random pools, averaged over 100 random partitions.

    Reads ``impression``, ``pred_volume`` (P) and ``pred_impression`` (P). ``pool32_R@1`` is NaN with fewer than 32
    cases. Intervals are not computed, because all partitions would have to be repeated for each resample.

    Args:
        protocol: ``spectre`` (uses the last, smaller pool), ``radfinder`` or ``merlin`` (drop it).

    Raises:
        ValueError: the protocol is unknown or has no pools.
    """

    default_prefix = "pool_retrieval"
    needs = frozenset({"impression", "pred_volume", "pred_impression"}) | STUDY_KEYS
    optional_needs = STUDY_KEYS

    def __init__(self, protocol: str, prefix: str | None = None, **kwargs):
        super().__init__(prefix=prefix or f"{self.default_prefix}_{protocol}", **kwargs)
        self.protocol = get_retrieval_protocol(protocol)
        if not self.protocol.pool_sizes:
            raise ValueError(f"Protocol {protocol} has no pools; expected spectre, radfinder or merlin.")

    def record(self, sample: dict) -> dict[str, Any] | None:
        if not has_text(sample["impression"]):
            return None
        return {
            "image": to_array(sample["pred_volume"]),
            "text": to_array(sample["pred_impression"]),
            "study": sample.get("study_id") or study_of(str(sample["case_id"])),
            "represents_study": represents_study(sample),
        }

    def score(self, cases: list[dict[str, Any]]) -> Mapping[str, float | str]:
        index = one_per_study(*([case[key] for case in cases] for key in ("case_id", "study", "represents_study")))
        cases = [cases[i] for i in index]
        # Without cases an empty array: pool_recall then returns NaN.
        image_NP, text_NP = (np.array([case[key] for case in cases], dtype=np.float64) for key in ("image", "text"))
        metrics: dict[str, float | str] = {}
        for size in self.protocol.pool_sizes:
            recall = pool_recall(text_NP, image_NP, size, _TOPK, keep_rest=self.protocol.keep_rest)
            metrics |= {f"pool{size}_{name}": value for name, value in recall.items()}
        return {**metrics, "num_cases": len(cases), "protocol": self.protocol.name}
