"""Retrieval of regions by the steps that mention them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.region_retrieval import region_retrieval_ranks, summarise_region_ranks
from ctvlm.evaluation.metrics.case_metric import step_field, step_regions, to_array
from ctvlm.evaluation.metrics.step_metric import StepMetric, step_stage
from ctvlm.registry import METRICS


@METRICS.register_module()
class RegionRetrievalMetric(StepMetric):
    """Retrieval of a case's region feature among the same region of all cases; scores are averaged over regions.

    The query is the mean embedding of the case's steps that mention the region. The regions of cases with the same step
    texts are also correct. Reads ``pred_steps`` (S, P), ``pred_regions`` (R, P), ``pred_region_mask`` (R), ``steps``.
    """

    default_prefix = "region_retrieval"
    per_step = ("texts", "embeddings", "mentions")
    needs = frozenset({"pred_steps", "pred_regions", "pred_region_mask", "steps"})

    def record(self, sample: dict) -> dict[str, Any]:
        rows = [row for row, step in enumerate(sample["steps"]) if step_regions(step)]
        steps = [sample["steps"][row] for row in rows]
        return {
            "regions": to_array(sample["pred_regions"]),
            "visible": to_array(sample["pred_region_mask"]).astype(bool),
            "embeddings": to_array(sample["pred_steps"])[rows],
            "texts": [step_field(step, "text") for step in steps],
            "mentions": [step_regions(step) for step in steps],
            "stages": [step_stage(step) for step in steps],
        }

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        of_cases = [_mentions(case) for case in cases]
        mentions = [mention for own in of_cases for mention in own]
        owner = np.array([number for number, own in enumerate(of_cases) for _ in own], dtype=int)
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


def _mentions(case: dict[str, Any]) -> list[tuple[int, str, np.ndarray, np.ndarray]]:
    """Region id, text of its steps, their mean embedding and the region feature, per mentioned region in the volume."""
    found = []
    for region in sorted({region for mentioned in case["mentions"] for region in mentioned}):
        if region <= len(case["visible"]) and case["visible"][region - 1]:
            own = [i for i, mentioned in enumerate(case["mentions"]) if region in mentioned]
            text = " ".join(case["texts"][i] for i in own)
            found.append((region, text, case["embeddings"][own].mean(axis=0), case["regions"][region - 1]))
    return found
