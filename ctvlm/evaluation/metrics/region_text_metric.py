"""Region-text accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from ctvlm.evaluation.functional import region_text_hits
from ctvlm.registry import METRICS


@METRICS.register_module()
class RegionTextMetric(BaseMetric):
    """Share of reasoning steps whose nearest region, among those in the volume, is one they mention.

    ``chance`` is what a random choice would score on the same steps.
    """

    default_prefix = "region_text"

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            self.results.append(
                region_text_hits(
                    sample["pred_steps"].numpy(),
                    sample["pred_regions"].numpy(),
                    sample["pred_region_mask"].numpy(),
                    [step.regions for step in sample["steps"]],
                )
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        hits, chances = (np.concatenate(parts) for parts in zip(*results, strict=True))
        if len(hits) == 0:
            # No step mentions a region that its volume shows (no region maps): nothing was measured.
            return {"accuracy": float("nan"), "chance": float("nan"), "num_steps": 0}
        return {"accuracy": float(hits.mean()), "chance": float(chances.mean()), "num_steps": len(hits)}
