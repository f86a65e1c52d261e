"""Volume-impression retrieval in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from ctvlm.evaluation.functional import retrieval_ranks, summarise_ranks
from ctvlm.evaluation.functional.retrieval import Duplicates
from ctvlm.registry import METRICS


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """Recall at k, median rank and MRR, text to image (``t2i``) and image to text (``i2t``).

    Args:
        topk: the k of recall at k.
        duplicates: what a duplicate impression counts as, see ``retrieval_ranks``.
    """

    default_prefix = "retrieval"

    def __init__(
        self,
        topk: Sequence[int] = (1, 5, 10),
        duplicates: Duplicates = "hit",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = tuple(topk)
        self.duplicates = duplicates

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            self.results.append(
                (sample["pred_image"].numpy(), sample["pred_impression"].numpy(), sample["impression"])
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        image_NP, text_NP = np.stack([r[0] for r in results]), np.stack([r[1] for r in results])
        texts = [r[2] for r in results]
        metrics = {}
        for name, query, gallery in (("t2i", text_NP, image_NP), ("i2t", image_NP, text_NP)):
            ranks = retrieval_ranks(query, gallery, texts, self.duplicates)
            metrics |= {f"{name}_{key}": value for key, value in summarise_ranks(ranks, self.topk).items()}
        return {**metrics, "num_cases": len(ranks)}
