"""Image-to-image retrieval by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.image_retrieval import image_map
from ctvlm.evaluation.functional.retrieval_protocols import get_retrieval_protocol
from ctvlm.evaluation.functional.studies import STUDY_KEYS, one_per_study, represents_study, study_of
from ctvlm.evaluation.metrics.case_metric import CaseMetric, to_array
from ctvlm.registry import METRICS
from ctvlm.text.finding_labels import CT_RATE_LABELS


@METRICS.register_module()
class ImageRetrievalMetric(CaseMetric):
    """``MAP@k`` between volumes under a published rule, see ``functional.image_retrieval``.

    Reads ``pred_volume`` (P) and ``labels`` (finding to 1, 0 or None). Cases with an unknown label are excluded.
    Intervals are not computed, because repeated cases in a resample would retrieve each other.

    Args:
        protocol: ``ct_clip``, ``spectre`` or ``radfinder``.
        names: findings to compare; CT-RATE's 18 by default.

    Raises:
        ValueError: the protocol is unknown or has no image-to-image retrieval.
    """

    default_prefix = "image_retrieval"
    needs = frozenset({"labels", "pred_volume"}) | STUDY_KEYS
    optional_needs = STUDY_KEYS

    def __init__(self, protocol: str, names: Sequence[str] | None = None, prefix: str | None = None, **kwargs):
        super().__init__(prefix=prefix or f"{self.default_prefix}_{protocol}", **kwargs)
        self.protocol = get_retrieval_protocol(protocol)
        if self.protocol.image_rule is None:
            raise ValueError(
                f"Protocol {protocol} has no image-to-image retrieval; expected ct_clip, spectre or radfinder."
            )
        self.rule = self.protocol.image_rule
        self.names = list(CT_RATE_LABELS if names is None else names)

    def record(self, sample: dict) -> dict[str, Any] | None:
        labels = [sample["labels"].get(name) for name in self.names]
        if any(label is None for label in labels):
            return None
        return {
            "image": to_array(sample["pred_volume"]),
            "labels": np.array(labels, dtype=int),
            "study": sample.get("study_id") or study_of(str(sample["case_id"])),
            "represents_study": represents_study(sample),
        }

    def score(self, cases: list[dict[str, Any]]) -> Mapping[str, float | str]:
        if self.protocol.one_per_study:
            index = one_per_study(*([case[key] for case in cases] for key in ("case_id", "study", "represents_study")))
            cases = [cases[i] for i in index]
        image_NP = np.array([case["image"] for case in cases])  # may be empty
        labels_NC = np.array([case["labels"] for case in cases], dtype=int).reshape(len(cases), len(self.names))
        metrics = image_map(image_NP, labels_NC, self.protocol.image_topk, self.rule)
        return {**metrics, "num_cases": len(cases), "protocol": self.protocol.name}
