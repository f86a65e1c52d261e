"""Zero-shot classification of findings by published protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.zero_shot import prompt_embeddings, zero_shot_probabilities
from ctvlm.evaluation.metrics.case_metric import to_array
from ctvlm.evaluation.metrics.classification_metric import ClassificationMetric
from ctvlm.registry import METRICS
from ctvlm.text.prompts import prompt_texts


@METRICS.register_module()
class ZeroShotClassificationMetric(ClassificationMetric):
    """Scores under a protocol of ``functional.zero_shot_protocols``, averaged over findings.

    Reads ``labels`` (finding to 1, 0 or None) and ``pred_volume`` (P), which is compared with the embeddings of
    ``prompts()``. ``PromptHook`` sets them with ``set_prompt_embeddings`` before the first batch. Arguments as in
    ``ClassificationMetric``; the protocol also defines the prompts.
    """

    default_prefix = "zero_shot"
    needs = frozenset({"labels", "pred_volume"})

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._prompts: tuple[np.ndarray, np.ndarray] | None = None
        self._scale = 1.0

    def prompts(self) -> list[str]:
        """Prompts whose embeddings the metric needs."""
        return prompt_texts(self.names, self.protocol.templates, self.protocol.phrases)

    def set_prompt_embeddings(self, embeddings: Mapping[str, Any], scale: float = 1.0) -> None:
        """Set the embedding of each prompt (P) in the shared space; ``scale`` is the model's logit scale."""
        arrays = {text: to_array(vector) for text, vector in embeddings.items()}
        protocol = self.protocol
        pairs = [prompt_embeddings(name, protocol.templates, arrays, protocol.phrases) for name in self.names]
        present_CP, absent_CP = (np.stack(side) for side in zip(*pairs, strict=True))
        self._prompts = present_CP, absent_CP
        self._scale = float(scale) if protocol.scaled else 1.0

    def probabilities(self, sample: dict) -> np.ndarray:
        if self._prompts is None:
            raise ValueError(
                "ZeroShotClassificationMetric has no prompt embeddings. Add PromptHook to the hooks, or call "
                "set_prompt_embeddings before the first batch."
            )
        return zero_shot_probabilities(to_array(sample["pred_volume"])[None], *self._prompts, self._scale)[0]
