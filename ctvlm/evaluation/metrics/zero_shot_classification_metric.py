"""Zero-shot classification of findings by the field's protocols."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.protocols import (
    finding_scores,
    fit_thresholds,
    get_protocol,
    protocol_scores,
    thresholds_for,
)
from ctvlm.evaluation.functional.zero_shot import prompt_embeddings, prompt_texts, zero_shot_probabilities
from ctvlm.evaluation.labels import CT_RATE_LABELS
from ctvlm.evaluation.metrics.case_metric import CaseMetric, to_array
from ctvlm.registry import METRICS


@METRICS.register_module()
class ZeroShotClassificationMetric(CaseMetric):
    """Scores of a protocol (``ct_clip``, ``spectre``, ``radfinder``, ``vlm3d``, ``ctvlm``), as means over findings.

    Reads ``labels`` (finding to 1, 0, None) and either ``pred_probabilities`` (finding to probability, from a
    classifier) or ``pred_image`` (P), which is compared with the embeddings of ``prompts()``: whoever runs the model
    gives them with ``set_prompt_embeddings`` before the first batch.

    Args:
        protocol: see ``functional.protocols``.
        names: findings; CT-RATE's 18 by default.
        thresholds: finding to threshold, or a JSON file of that, from a dev split (protocol ``ctvlm``). ``dev`` lets
            ``tools/test.py`` fit them on the validation data first. Without them the scores that need them are NaN.
        save_thresholds: fit the protocol's rule on this split and write that JSON file: for a run on the dev split.
        per_finding: also the scores of each finding.
    """

    default_prefix = "zero_shot"

    def __init__(
        self,
        protocol: str = "ctvlm",
        names: Sequence[str] | None = None,
        thresholds: Mapping[str, float] | str | None = None,
        save_thresholds: str | None = None,
        per_finding: bool = False,
        prefix: str | None = None,
        **kwargs,
    ):
        super().__init__(prefix=prefix or f"{self.default_prefix}_{protocol}", **kwargs)
        self.protocol = get_protocol(protocol)
        self.names = list(CT_RATE_LABELS if names is None else names)
        self.thresholds = thresholds
        self.save_thresholds = save_thresholds
        self.per_finding = per_finding
        self._directions: tuple[np.ndarray, np.ndarray] | None = None
        self._scale = 1.0

    def prompts(self) -> list[str]:
        """Sentences whose embeddings are needed."""
        return prompt_texts(self.names, self.protocol.templates)

    def set_prompt_embeddings(self, embeddings: Mapping[str, Any], scale: float = 1.0) -> None:
        """Take the embedding of each prompt (P) in the image's space; ``scale`` is the model's logit scale."""
        arrays = {text: to_array(vector) for text, vector in embeddings.items()}
        sides = [prompt_embeddings(name, self.protocol.templates, arrays) for name in self.names]
        self._directions = tuple(np.stack(side) for side in zip(*sides, strict=True))
        self._scale = float(scale)

    def record(self, sample: dict) -> dict[str, Any]:
        truth = sample["labels"]
        given = sample.get("pred_probabilities")
        if given is not None:
            missing = [name for name in self.names if truth.get(name) is not None and name not in given]
            if missing:
                raise ValueError(
                    f"Case {sample['case_id']}: no probability of {missing[0]!r}, which it has a label of."
                )
            probability = np.array([float(given.get(name, np.nan)) for name in self.names])
        elif self._directions is not None:
            image_1P = to_array(sample["pred_image"])[None]
            probability = zero_shot_probabilities(image_1P, *self._directions, self._scale)[0]
        else:
            raise ValueError(
                "ZeroShotClassificationMetric has no prompt embeddings and the samples no pred_probabilities: call "
                "set_prompt_embeddings (a PromptHook does) before the first batch."
            )
        labels = [np.nan if truth.get(name) is None else float(truth[name]) for name in self.names]
        return {"truth": np.array(labels), "probability": probability}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        truth_NC, probability_NC = (
            np.array([case[key] for case in cases]).reshape(-1, len(self.names)) for key in ("truth", "probability")
        )
        if self.save_thresholds and cases:
            fitted = fit_thresholds(self.protocol, truth_NC, probability_NC)
            values = {n: None if np.isnan(t) else float(t) for n, t in zip(self.names, fitted, strict=True)}
            Path(self.save_thresholds).parent.mkdir(parents=True, exist_ok=True)
            Path(self.save_thresholds).write_text(json.dumps(values, indent=2), encoding="utf-8")
        thresholds_C = self._thresholds()

        def summary(index: np.ndarray) -> dict[str, float]:
            return protocol_scores(self.protocol, truth_NC[index], probability_NC[index], thresholds_C)

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        if self.per_finding:
            scores = finding_scores(self.protocol, truth_NC, probability_NC, thresholds_C)
            for number, finding in enumerate(self.names):
                metrics |= {f"{finding}/{name}": float(values[number]) for name, values in scores.items()}
        both = ((truth_NC == 1).any(axis=0) & (truth_NC == 0).any(axis=0)).sum()
        return {**metrics, "num_cases": len(cases), "findings_scored": int(both)}

    def _thresholds(self) -> np.ndarray | None:
        thresholds = None if self.thresholds == "dev" else self.thresholds
        if isinstance(thresholds, str):
            thresholds = json.loads(Path(thresholds).read_text(encoding="utf-8"))
        return None if thresholds is None else thresholds_for(self.names, thresholds)
