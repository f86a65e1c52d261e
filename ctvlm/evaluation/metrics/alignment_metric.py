"""Agreement of step attention with the anatomy that steps mention."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.alignment import attention_auroc, attention_spearman, pointing_game
from ctvlm.evaluation.functional.localisation import slice_centre_error_mm
from ctvlm.evaluation.functional.protocols import mean_defined
from ctvlm.evaluation.metrics.case_metric import CaseMetric, step_regions, to_array
from ctvlm.registry import METRICS

_NAMES = ("spearman", "auroc", "pointing", "pointing_chance", "slice_error_mm", "slice_error_mm_chance")


@METRICS.register_module()
class AlignmentMetric(CaseMetric):
    """Spearman, AUROC, pointing game and slice error of each step's attention against its regions' occupancy.

    Reads ``pred_step_attention`` (S, N), ``patch_occupancy`` (N, R + 1, from the region map; column 0 background),
    ``steps`` and, where patches were dropped, ``pred_token_mask`` (N); for ``slice_error_mm`` (see
    ``slice_centre_error_mm``; its chance level is constant attention) also ``pred_grid`` (d, h, w), ``volume_shape``
    (D, H, W) and ``spacing`` (mm, z y x). A step without a region in its volume does not count; each score is the mean
    over the steps for which it is defined, NaN where there are none.

    Args:
        min_share: a patch belongs to the mentioned regions where they fill more than this share of it.
    """

    default_prefix = "step_attention"
    optional_needs = frozenset({"pred_token_mask", "pred_grid", "volume_shape", "spacing"})
    needs = frozenset({"pred_step_attention", "patch_occupancy", "steps"}) | optional_needs

    def __init__(self, min_share: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.min_share = min_share

    def record(self, sample: dict) -> dict[str, Any] | None:
        if sample.get("patch_occupancy") is None:
            return None
        attention_SN, occupancy_NR = to_array(sample["pred_step_attention"]), to_array(sample["patch_occupancy"])
        mask_N = None if sample.get("pred_token_mask") is None else to_array(sample["pred_token_mask"])
        everywhere_N = np.ones(attention_SN.shape[1]) if mask_N is None else mask_N.astype(float)
        grid, shape = sample.get("pred_grid"), sample.get("volume_shape")
        # Without them, mm are not known.
        depth_mm = None if grid is None or shape is None else sample["spacing"][0] * shape[0] / grid[0]
        rows = []
        for attention_N, step in zip(attention_SN, sample["steps"], strict=True):
            regions = [r for r in step_regions(step) if occupancy_NR[:, r].any()]
            if regions:
                occupancy_N = occupancy_NR[:, regions].sum(axis=1)
                rows.append(
                    (
                        attention_spearman(attention_N, occupancy_N, mask_N),
                        attention_auroc(attention_N, occupancy_N, mask_N, self.min_share),
                        *pointing_game(attention_N, occupancy_N, mask_N, self.min_share),
                        *(
                            np.nan if depth_mm is None else slice_centre_error_mm(looked, occupancy_N, grid, depth_mm)
                            for looked in (attention_N * everywhere_N, everywhere_N)
                        ),
                    )
                )
        return {"rows": np.array(rows, dtype=np.float64).reshape(-1, len(_NAMES))}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        def summary(index: np.ndarray) -> dict[str, float]:
            rows = np.concatenate([cases[i]["rows"] for i in index])
            return {name: mean_defined(rows[:, number]) for number, name in enumerate(_NAMES)}

        if not cases:
            return {**dict.fromkeys(_NAMES, float("nan")), "num_steps": 0}
        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        metrics = {name: value for name, value in metrics.items() if "_chance_" not in name}
        return {**metrics, "num_steps": sum(len(case["rows"]) for case in cases)}
