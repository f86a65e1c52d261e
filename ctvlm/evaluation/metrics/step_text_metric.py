"""Agreement of reasoning steps with the patches of their case."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.protocols import mean_defined
from ctvlm.evaluation.functional.step_text import rival_cases, step_text_auc, step_text_scores
from ctvlm.evaluation.metrics.case_metric import step_field, step_regions, to_array
from ctvlm.evaluation.metrics.step_metric import StepMetric, step_stage
from ctvlm.registry import METRICS


@METRICS.register_module()
class StepTextMetric(StepMetric):
    """Probability that a step is more similar to the patches of its own case than to those of a rival case.

    A rival has a step on the same regions without any of the step's findings (``rival_cases``). The patches of each
    case are pooled by the attention of the same step, so that only their content differs. ``auc`` is the mean over
    steps with regions and a rival, ``auc_abnormal`` over those with findings; 0.5 is chance. The rivals of the steps of
    a stage have such a step in the same stage.

    Reads ``pred_steps`` (S, P), ``pred_patches`` (N, P), ``pred_step_scale``, ``steps`` and, for models that drop
    patches, ``pred_token_mask`` (N). Stores the patches of all cases in half precision.
    """

    default_prefix = "step_text"
    per_step = ("texts", "regions", "findings")
    needs = frozenset({"pred_steps", "pred_patches", "pred_step_scale", "pred_token_mask", "steps"})
    optional_needs = frozenset({"pred_token_mask"})

    def record(self, sample: dict) -> dict[str, Any]:
        patches_NP = to_array(sample["pred_patches"])
        if sample.get("pred_token_mask") is not None:
            patches_NP = patches_NP[to_array(sample["pred_token_mask"]).astype(bool)]
        steps = [(i, step) for i, step in enumerate(sample["steps"]) if step_regions(step)]
        return {
            "patches": patches_NP.astype(np.float16),
            "texts": to_array(sample["pred_steps"])[[i for i, _ in steps]],
            "scale": float(sample["pred_step_scale"]),
            "regions": [tuple(sorted(step_regions(step))) for _, step in steps],
            "findings": [tuple(step_field(step, "entities") or ()) for _, step in steps],
            "stages": [step_stage(step) for _, step in steps],
        }

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        owners = np.array([number for number, case in enumerate(cases) for _ in case["regions"]], dtype=int)
        findings = [names for case in cases for names in case["findings"]]
        auc_S = np.zeros(0)
        if len(owners):
            text_SP = np.concatenate([case["texts"] for case in cases]).astype(np.float32)
            scores = [step_text_scores(text_SP, case["patches"].astype(np.float32), case["scale"]) for case in cases]
            regions = [mentioned for case in cases for mentioned in case["regions"]]
            auc_S = step_text_auc(np.stack(scores, axis=1), owners, rival_cases(owners, regions, findings, len(cases)))
        abnormal_S = np.array([bool(names) for names in findings], dtype=bool)
        of_case = [np.flatnonzero(owners == number) for number in range(len(cases))]

        def summary(index: np.ndarray) -> dict[str, float]:
            rows = np.concatenate([np.zeros(0, dtype=int), *(of_case[i] for i in index)])
            return {"auc": mean_defined(auc_S[rows]), "auc_abnormal": mean_defined(auc_S[rows][abnormal_S[rows]])}

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        chance = {
            f"{name}_chance": float("nan") if np.isnan(metrics[name]) else 0.5 for name in ("auc", "auc_abnormal")
        }
        return {**metrics, **chance, "num_steps": int(np.isfinite(auc_S).sum())}
