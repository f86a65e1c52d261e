"""Retrieval of regions by what the report says of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.region_retrieval import region_retrieval_ranks, summarise_region_ranks
from ctvlm.evaluation.functional.retrieval import Duplicates
from ctvlm.evaluation.metrics.case_metric import CaseMetric, step_field, step_regions, to_array
from ctvlm.registry import METRICS


@METRICS.register_module()
class RegionRetrievalMetric(CaseMetric):
    """Among one region of all cases, the rank of the one a case's text speaks of; means over regions.

    A case's text on a region is the mean embedding of its steps that mention it; two mentions are duplicates where
    those steps read the same. Reads what ``RegionTextMetric`` reads, and the steps' text.
    """

    default_prefix = "region_retrieval"
    needs = frozenset({"pred_steps", "pred_regions", "pred_region_mask", "steps"})

    def __init__(self, duplicates: Duplicates = "hit", **kwargs):
        super().__init__(**kwargs)
        self.duplicates = duplicates

    def record(self, sample: dict) -> dict[str, Any]:
        steps, texts_SP = sample["steps"], to_array(sample["pred_steps"])
        regions_RP, visible_R = to_array(sample["pred_regions"]), to_array(sample["pred_region_mask"]).astype(bool)
        mentions = []
        for region in sorted({region for step in steps for region in step_regions(step)}):
            if region <= len(visible_R) and visible_R[region - 1]:
                own = [i for i, step in enumerate(steps) if region in step_regions(step)]
                words = " ".join(step_field(steps[i], "text") for i in own)
                mentions.append((region, words, texts_SP[own].mean(axis=0), regions_RP[region - 1]))
        return {"mentions": mentions}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        mentions = [mention for case in cases for mention in case["mentions"]]
        owner = np.array([number for number, case in enumerate(cases) for _ in case["mentions"]], dtype=int)
        regions = np.array([mention[0] for mention in mentions], dtype=int)
        kept = ranks = sizes = np.zeros(0, dtype=int)
        if mentions:
            text_MP, region_MP = (np.stack([mention[part] for mention in mentions]) for part in (2, 3))
            words = [mention[1] for mention in mentions]
            kept, ranks, sizes = region_retrieval_ranks(text_MP, region_MP, regions, words, self.duplicates)
        of_case = [np.flatnonzero(owner[kept] == number) for number in range(len(cases))]

        def summary(index: np.ndarray) -> dict[str, float]:
            rows = np.concatenate([np.zeros(0, dtype=int), *(of_case[i] for i in index)])
            return summarise_region_ranks(ranks[rows], sizes[rows], regions[kept][rows])

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        # A chance level has no interval of its own.
        metrics = {name: value for name, value in metrics.items() if "_chance_" not in name}
        return {**metrics, "num_mentions": len(kept)}
