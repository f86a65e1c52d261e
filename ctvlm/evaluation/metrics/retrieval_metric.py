"""Volume-impression retrieval in both directions."""

from __future__ import annotations

from collections.abc import Sequence
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
from ctvlm.evaluation.metrics.case_metric import CaseMetric, says_something, to_array
from ctvlm.registry import METRICS

# Impressions that say nothing: empty, and CT-RATE's placeholder.
PLACEHOLDERS = ("", "Not given.")


@METRICS.register_module()
class RetrievalMetric(CaseMetric):
    """Recall at k, median rank and MRR, text to image (``t2i``) and image to text (``i2t``).

    Reads ``pred_volume`` (P), ``pred_impression`` (P), ``impression``. Intervals resample the queries of whole patients
    against the full gallery. A case without an impression is left out; ``num_cases`` counts the others. Without a case
    that counts all metrics are NaN.

    ``protocol`` and ``pairing`` (ties, duplicates, volumes) are reported beside the scores, as text.

    Args:
        protocol: a name of ``functional.retrieval_protocols``. A published protocol fixes all of the following.
        topk: the k of recall at k; NaN where the gallery holds no more than k.
        duplicates: what a duplicate impression counts as, see ``retrieval_ranks``.
        one_per_study: keep one volume of each study (``study_id`` of the sample, or read from CT-RATE's names).
        skip_texts: impressions that say nothing, such as CT-RATE's placeholder; their cases are left out. Published
            protocols keep them.

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
        collect_device: str = "cpu",
        prefix: str | None = None,
        one_per_study: bool | None = None,
        skip_texts: Sequence[str] = PLACEHOLDERS,
        protocol: str = "ctvlm",
        **kwargs,
    ):
        if protocol != "ctvlm":
            prefix = prefix or f"{self.default_prefix}_{protocol}"
        super().__init__(collect_device=collect_device, prefix=prefix, **kwargs)
        found = get_retrieval_protocol(protocol)
        given = {"topk": topk, "duplicates": duplicates, "one_per_study": one_per_study}
        changed = {name: value for name, value in given.items() if value is not None}
        if protocol != "ctvlm" and changed:
            raise ValueError(
                f"Protocol {protocol} fixes {', '.join(changed)}: leave them out, or use protocol='ctvlm'."
            )
        self.protocol = replace(found, **changed)
        if not self.protocol.topk:
            raise ValueError(f"Protocol {protocol} has no recall over all volumes: use PoolRetrievalMetric.")
        self.topk = tuple(self.protocol.topk)
        self.duplicates = self.protocol.duplicates
        self.skip_texts = set(skip_texts) if found.skip_placeholders else set()

    def record(self, sample: dict) -> dict[str, Any] | None:
        impression = sample["impression"]
        if not says_something(impression) or impression.strip() in self.skip_texts:
            return None
        return {
            "image": to_array(sample["pred_volume"]),
            "text": to_array(sample["pred_impression"]),
            "impression": sample["impression"],
            "study": sample.get("study_id") or study_of(str(sample["case_id"])),
            "represents_study": represents_study(sample),
        }

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float | str]:
        if self.protocol.one_per_study:
            kept = one_per_study(*([case[key] for case in cases] for key in ("case_id", "study", "represents_study")))
            cases = [cases[i] for i in kept]
        if self.duplicates == "first":
            cases = [cases[i] for i in first_of_each(text_groups([case["impression"] for case in cases]))]
        how = {"protocol": self.protocol.name, "pairing": self.protocol.description}
        if not cases:
            names = [f"{way}_{name}" for way in ("t2i", "i2t") for name in summarise_ranks(np.zeros(0), self.topk)]
            return {**dict.fromkeys(names, float("nan")), "num_cases": 0, **how}
        image_NP, text_NP = (np.stack([case[key] for case in cases]) for key in ("image", "text"))
        texts, patients = [case["impression"] for case in cases], [case["patient_id"] for case in cases]
        chance = chance_recall(texts, self.topk, self.duplicates)
        metrics = {}
        for way, query, gallery in (("t2i", text_NP, image_NP), ("i2t", image_NP, text_NP)):
            ranks = retrieval_ranks(query, gallery, texts, self.duplicates, self.protocol.ties)

            def summary(index: np.ndarray, ranks: np.ndarray = ranks, way: str = way) -> dict[str, float]:
                values = summarise_ranks(ranks[index], self.topk, gallery_size=len(ranks))
                return {f"{way}_{name}": value for name, value in values.items()}

            metrics |= self.with_intervals(summary, patients)
            metrics |= {f"{way}_{name}_chance": value for name, value in chance.items()}
        return {**metrics, "num_cases": len(cases), **how}
