"""Agreement of step attention with the regions that steps mention."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.alignment import attention_auroc, attention_spearman, pointing_game
from ctvlm.evaluation.functional.localisation import slice_centre_error_mm
from ctvlm.evaluation.functional.protocols import mean_defined
from ctvlm.evaluation.metrics.case_metric import step_regions, to_array
from ctvlm.evaluation.metrics.step_metric import StepMetric, step_stage
from ctvlm.registry import METRICS

_NAMES = ("spearman", "auroc", "pointing", "pointing_chance", "slice_error_mm", "slice_error_mm_chance")


@METRICS.register_module()
class AlignmentMetric(StepMetric):
    """Spearman, AUROC, pointing game and slice error between each step's attention and the occupancy of its regions.

    Reads ``pred_step_attention`` (S, N), ``patch_occupancy`` (N, R + 1, from the region map; column 0 is background),
    ``steps`` and, for models that drop patches, ``pred_token_mask`` (N). ``slice_error_mm`` (see
    ``slice_centre_error_mm``; its chance level is constant attention) also needs ``pred_grid`` (d, h, w),
    ``volume_shape`` (D, H, W) and ``spacing`` (mm, z y x). Steps without a region in their volume are excluded. Each
    score is the mean over the steps for which it is defined; NaN without such steps.
    """

    default_prefix = "step_attention"
    per_step = ("rows",)
    optional_needs = frozenset({"pred_token_mask", "pred_grid", "volume_shape", "spacing"})
    needs = frozenset({"pred_step_attention", "patch_occupancy", "steps"}) | optional_needs

    def record(self, sample: dict) -> dict[str, Any] | None:
        if sample.get("patch_occupancy") is None:
            return None
        attention_SN, occupancy_NR = to_array(sample["pred_step_attention"]), to_array(sample["patch_occupancy"])
        mask_N = None if sample.get("pred_token_mask") is None else to_array(sample["pred_token_mask"])
        constant_N = np.ones(attention_SN.shape[1]) if mask_N is None else mask_N.astype(float)
        grid, shape = sample.get("pred_grid"), sample.get("volume_shape")
        rows, stages = [], []
        for attention_N, step in zip(attention_SN, sample["steps"], strict=True):
            regions = [r for r in step_regions(step) if occupancy_NR[:, r].any()]
            if not regions:
                continue
            occupancy_N = occupancy_NR[:, regions].sum(axis=1)
            slice_errors = [np.nan, np.nan]
            if grid is not None and shape is not None:
                depth_mm = sample["spacing"][0] * shape[0] / grid[0]
                slice_errors = [
                    slice_centre_error_mm(weights_N, occupancy_N, grid, depth_mm)
                    for weights_N in (attention_N * constant_N, constant_N)
                ]
            stages.append(step_stage(step))
            rows.append(
                (
                    attention_spearman(attention_N, occupancy_N, mask_N),
                    attention_auroc(attention_N, occupancy_N, mask_N),
                    *pointing_game(attention_N, occupancy_N, mask_N),
                    *slice_errors,
                )
            )
        return {"rows": np.array(rows, dtype=np.float64).reshape(-1, len(_NAMES)), "stages": stages}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        def summary(index: np.ndarray) -> dict[str, float]:
            rows = np.concatenate([cases[i]["rows"] for i in index])
            return {name: mean_defined(rows[:, number]) for number, name in enumerate(_NAMES)}

        if not cases:
            return {**dict.fromkeys(_NAMES, float("nan")), "num_steps": 0}
        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        metrics = {name: value for name, value in metrics.items() if "_chance_" not in name}
        return {**metrics, "num_steps": sum(len(case["rows"]) for case in cases)}
