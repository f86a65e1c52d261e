"""Localisation of the slice that a step describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.localisation import slice_localisation
from ctvlm.evaluation.metrics.case_metric import step_field, to_array
from ctvlm.evaluation.metrics.step_metric import StepMetric, step_stage
from ctvlm.registry import METRICS


@METRICS.register_module()
class SliceLocalisationMetric(StepMetric):
    """Slice localisation of the steps with a lesion: error in mm, and share within 12 and 24 mm.

    The predicted slice is the middle of the layer of patches with the most attention. The true slice is the mean of the
    lesion's slices. RadFinder uses the same error (see ``functional.slice_localisation``), but its target is the slice
    number cited by a report sentence, and its prediction is the position whose image embedding is most similar to the
    sentence. The values cannot be compared with RadFinder's; the protocol is therefore ``ctvlm``.

    Reads ``pred_step_attention`` (S, N), ``pred_grid`` (d, h, w), ``lesion_map`` (D, H, W), ``steps`` with their
    ``lesion``, and ``spacing`` (mm, z y x).
    """

    default_prefix = "slice_localisation"
    per_step = ("rows",)
    needs = frozenset({"pred_step_attention", "pred_grid", "lesion_map", "steps", "spacing"})

    def record(self, sample: dict) -> dict[str, Any] | None:
        if sample.get("lesion_map") is None:
            return None
        lesions, layers = to_array(sample["lesion_map"]), int(sample["pred_grid"][0])
        slice_mm = float(to_array(sample["spacing"])[0])
        layer_mm = slice_mm * len(lesions) / layers
        rows, stages = [], []
        for number, step in enumerate(sample["steps"]):
            slices = np.flatnonzero((lesions == step_field(step, "lesion")).any(axis=(1, 2)))
            if step_field(step, "lesion") is None or not len(slices):
                continue
            attention_d = to_array(sample["pred_step_attention"])[number].reshape(layers, -1).sum(axis=1)
            stages.append(step_stage(step))
            rows.append(((attention_d.argmax() + 0.5) * layer_mm, (slices.mean() + 0.5) * slice_mm))
        return {"rows": np.array(rows, dtype=np.float64).reshape(-1, 2), "stages": stages}

    def score(self, cases: list[dict[str, Any]]) -> Mapping[str, float | str]:
        def summary(index: np.ndarray) -> dict[str, float]:
            rows = np.concatenate([np.zeros((0, 2)), *(cases[i]["rows"] for i in index)])
            return slice_localisation(rows[:, 0], rows[:, 1])

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        return {**metrics, "num_steps": sum(len(case["rows"]) for case in cases), "protocol": "ctvlm"}
