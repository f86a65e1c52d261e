"""Volume-impression retrieval in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.retrieval import (
    Duplicates,
    chance_recall,
    first_of_each,
    retrieval_ranks,
    summarise_ranks,
    text_groups,
)
from ctvlm.evaluation.functional.retrieval_protocols import get_retrieval_protocol
from ctvlm.evaluation.functional.studies import STUDY_KEYS, one_per_study, represents_study, study_of
from ctvlm.evaluation.metrics.case_metric import CaseMetric, has_text, to_array
from ctvlm.registry import METRICS

# CT-RATE's placeholder for a missing impression.
_PLACEHOLDER = "Not given."


@METRICS.register_module()
class RetrievalMetric(CaseMetric):
    """Recall at k, median rank and MRR from text to volume (``t2i``) and from volume to text (``i2t``).

    Reads ``pred_volume`` (P), ``pred_impression`` (P) and ``impression``. Intervals resample the queries of patients;
    the gallery stays complete. Cases without an impression are excluded; ``num_cases`` counts the others. All scores
    are NaN without cases. Also reports ``protocol`` and ``pairing`` (ties, duplicates, volumes) as text.

    Args:
        protocol: name of a protocol in ``functional.retrieval_protocols``. Published protocols do not accept the
            following arguments. The protocol ``ctvlm`` excludes CT-RATE's placeholder impressions.
        topk: values of k for recall at k, which is NaN if the gallery has no more than k volumes.
        duplicates: treatment of equal impressions, see ``retrieval_ranks``.
        one_per_study: score one volume of each study (``study_id``, or derived from CT-RATE's names).

    Raises:
        ValueError: the protocol is unknown or has only pools, or an argument would change a published protocol.
    """

    default_prefix = "retrieval"
    needs = frozenset({"impression", "pred_volume", "pred_impression"}) | STUDY_KEYS
    optional_needs = STUDY_KEYS

    def __init__(
        self,
        topk: Sequence[int] | None = None,
        duplicates: Duplicates | None = None,
        one_per_study: bool | None = None,
        protocol: str = "ctvlm",
        prefix: str | None = None,
        **kwargs,
    ):
        if protocol != "ctvlm":
            prefix = prefix or f"{self.default_prefix}_{protocol}"
        super().__init__(prefix=prefix, **kwargs)
        options: dict[str, Any] = {"topk": topk, "duplicates": duplicates, "one_per_study": one_per_study}
        options = {name: value for name, value in options.items() if value is not None}
        if protocol != "ctvlm" and options:
            raise ValueError(
                f"Protocol {protocol} does not accept {', '.join(options)}. Remove them, or use protocol='ctvlm'."
            )
        self.protocol = replace(get_retrieval_protocol(protocol), **options)
        if not self.protocol.topk:
            raise ValueError(f"Protocol {protocol} has no recall over all volumes. Use PoolRetrievalMetric.")
        self.topk = tuple(self.protocol.topk)
        self.duplicates = self.protocol.duplicates

    def record(self, sample: dict) -> dict[str, Any] | None:
        impression = sample["impression"]
        if not has_text(impression) or (self.protocol.skip_placeholders and impression.strip() == _PLACEHOLDER):
            return None
        return {
            "image": to_array(sample["pred_volume"]),
            "text": to_array(sample["pred_impression"]),
            "impression": impression,
            "study": sample.get("study_id") or study_of(str(sample["case_id"])),
            "represents_study": represents_study(sample),
        }

    def score(self, cases: list[dict[str, Any]]) -> Mapping[str, float | str]:
        if self.protocol.one_per_study:
            index = one_per_study(*([case[key] for case in cases] for key in ("case_id", "study", "represents_study")))
            cases = [cases[i] for i in index]
        if self.duplicates == "first":
            cases = [cases[i] for i in first_of_each(text_groups([case["impression"] for case in cases]))]
        description = {"protocol": self.protocol.name, "pairing": self.protocol.description}
        if not cases:
            scores = summarise_ranks(np.zeros(0), self.topk)
            names = [f"{direction}_{name}" for direction in ("t2i", "i2t") for name in scores]
            return {**dict.fromkeys(names, float("nan")), "num_cases": 0, **description}
        image_NP, text_NP = (np.stack([case[key] for case in cases]) for key in ("image", "text"))
        texts, patients = [case["impression"] for case in cases], [case["patient_id"] for case in cases]
        chance = chance_recall(texts, self.topk, self.duplicates)
        metrics: dict[str, float] = {}
        for direction, query, gallery in (("t2i", text_NP, image_NP), ("i2t", image_NP, text_NP)):
            ranks = retrieval_ranks(query, gallery, texts, self.duplicates, self.protocol.ties)

            def summary(index: np.ndarray, ranks: np.ndarray = ranks, direction: str = direction) -> dict[str, float]:
                values = summarise_ranks(ranks[index], self.topk, gallery_size=len(ranks))
                return {f"{direction}_{name}": value for name, value in values.items()}

            metrics |= self.with_intervals(summary, patients)
            metrics |= {f"{direction}_{name}_chance": value for name, value in chance.items()}
        return {**metrics, "num_cases": len(cases), **description}
