"""Region-text accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.alignment import region_text_hits
from ctvlm.evaluation.metrics.case_metric import step_regions, to_array
from ctvlm.evaluation.metrics.step_metric import StepMetric, step_stage
from ctvlm.registry import METRICS


@METRICS.register_module()
class RegionTextMetric(StepMetric):
    """Share of steps whose most similar region, among the regions in the volume, is one that they mention.

    Reads ``pred_steps`` (S, P), ``pred_regions`` (R, P), ``pred_region_mask`` (R) and ``steps``. ``chance`` is the
    accuracy of a random choice on the same steps. All NaN if no step mentions a region in its volume.
    """

    default_prefix = "region_text"
    per_step = ("hits", "chances")
    needs = frozenset({"pred_steps", "pred_regions", "pred_region_mask", "steps"})

    def record(self, sample: dict) -> dict[str, Any]:
        steps, mask_R = sample["steps"], to_array(sample["pred_region_mask"])
        mentions = [step_regions(step) for step in steps]
        hits, chances = region_text_hits(
            to_array(sample["pred_steps"]), to_array(sample["pred_regions"]), mask_R, mentions
        )
        visible = {int(r) + 1 for r in np.flatnonzero(mask_R)}
        stages = [step_stage(step) for step, mentioned in zip(steps, mentions) if visible & set(mentioned)]
        return {"hits": hits, "chances": chances, "stages": stages}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        def summary(index: np.ndarray) -> dict[str, float]:
            hits = np.concatenate([cases[i]["hits"] for i in index])
            return {"accuracy": float(hits.mean()) if len(hits) else float("nan")}

        chances = np.concatenate([np.zeros(0), *(case["chances"] for case in cases)])
        if len(chances) == 0:
            return {"accuracy": float("nan"), "chance": float("nan"), "num_steps": 0}
        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        return {**metrics, "chance": float(chances.mean()), "num_steps": len(chances)}
