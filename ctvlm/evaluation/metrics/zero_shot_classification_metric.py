"""Zero-shot classification of findings by the field's protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.zero_shot import prompt_embeddings, prompt_texts, zero_shot_probabilities
from ctvlm.evaluation.metrics.case_metric import to_array
from ctvlm.evaluation.metrics.classification_metric import ClassificationMetric
from ctvlm.registry import METRICS


@METRICS.register_module()
class ZeroShotClassificationMetric(ClassificationMetric):
    """Scores of a protocol of ``functional.zero_shot_protocols``, as means over findings.

    Reads ``labels`` (finding to 1, 0, None) and ``pred_volume`` (P), which is compared with the embeddings of
    ``prompts()``: whoever runs the model gives them with ``set_prompt_embeddings`` before the first batch. Arguments as
    in ``ClassificationMetric``; the protocol also has the prompts.
    """

    default_prefix = "zero_shot"
    needs = frozenset({"labels", "pred_volume"})

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._directions: tuple[np.ndarray, np.ndarray] | None = None
        self._scale = 1.0

    def prompts(self) -> list[str]:
        """Sentences whose embeddings are needed."""
        return prompt_texts(self.names, self.protocol.templates, self.protocol.phrases)

    def set_prompt_embeddings(self, embeddings: Mapping[str, Any], scale: float = 1.0) -> None:
        """Take the embedding of each prompt (P) in the image's space; ``scale`` is the model's logit scale."""
        arrays = {text: to_array(vector) for text, vector in embeddings.items()}
        protocol = self.protocol
        sides = [prompt_embeddings(name, protocol.templates, arrays, protocol.phrases) for name in self.names]
        self._directions = tuple(np.stack(side) for side in zip(*sides, strict=True))
        self._scale = float(scale) if protocol.scaled else 1.0

    def probabilities(self, sample: dict) -> np.ndarray:
        if self._directions is None:
            raise ValueError(
                "ZeroShotClassificationMetric has no prompt embeddings: call set_prompt_embeddings (a PromptHook does) "
                "before the first batch."
            )
        return zero_shot_probabilities(to_array(sample["pred_volume"])[None], *self._directions, self._scale)[0]
