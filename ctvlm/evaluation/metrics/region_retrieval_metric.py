"""Retrieval of regions by the steps that mention them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.region_retrieval import region_retrieval_ranks, summarise_region_ranks
from ctvlm.evaluation.metrics.case_metric import CaseMetric, step_field, step_regions, to_array
from ctvlm.registry import METRICS


@METRICS.register_module()
class RegionRetrievalMetric(CaseMetric):
    """Retrieval of a case's region feature among the same region of all cases; scores are averaged over regions.

    The query is the mean embedding of the case's steps that mention the region. The regions of cases with the same step
    texts are also correct. Reads ``pred_steps`` (S, P), ``pred_regions`` (R, P), ``pred_region_mask`` (R), ``steps``.
    """

    default_prefix = "region_retrieval"
    needs = frozenset({"pred_steps", "pred_regions", "pred_region_mask", "steps"})

    def record(self, sample: dict) -> dict[str, Any]:
        steps, texts_SP = sample["steps"], to_array(sample["pred_steps"])
        regions_RP, visible_R = to_array(sample["pred_regions"]), to_array(sample["pred_region_mask"]).astype(bool)
        mentions = []
        for region in sorted({region for step in steps for region in step_regions(step)}):
            if region <= len(visible_R) and visible_R[region - 1]:
                own = [i for i, step in enumerate(steps) if region in step_regions(step)]
                text = " ".join(step_field(steps[i], "text") for i in own)
                mentions.append((region, text, texts_SP[own].mean(axis=0), regions_RP[region - 1]))
        return {"mentions": mentions}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        mentions = [mention for case in cases for mention in case["mentions"]]
        owner = np.array([number for number, case in enumerate(cases) for _ in case["mentions"]], dtype=int)
        regions = np.array([mention[0] for mention in mentions], dtype=int)
        scored = ranks = sizes = np.zeros(0, dtype=int)
        if mentions:
            text_MP, region_MP = (np.stack([mention[part] for mention in mentions]) for part in (2, 3))
            texts = [mention[1] for mention in mentions]
            scored, ranks, sizes = region_retrieval_ranks(text_MP, region_MP, regions, texts)
        of_case = [np.flatnonzero(owner[scored] == number) for number in range(len(cases))]

        def summary(index: np.ndarray) -> dict[str, float]:
            rows = np.concatenate([np.zeros(0, dtype=int), *(of_case[i] for i in index)])
            return summarise_region_ranks(ranks[rows], sizes[rows], regions[scored][rows])

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        # Chance levels have no intervals.
        metrics = {name: value for name, value in metrics.items() if "_chance_" not in name}
        return {**metrics, "num_mentions": len(scored)}
