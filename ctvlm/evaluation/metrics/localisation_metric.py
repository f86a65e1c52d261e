"""Localisation of lesions from step attention, or by predicted masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.instances import connected_instances, instance_counts, instance_scores
from ctvlm.evaluation.functional.localisation import (
    centroid_distance_mm,
    heat_to_mask,
    hit_rate,
    mask_dice,
    mask_iou,
    patches_to_voxels,
    peak_distance_mm,
    peak_hit,
    slice_error_mm,
)
from ctvlm.evaluation.functional.protocols import mean_defined
from ctvlm.evaluation.metrics.case_metric import CaseMetric, says_something, step_field, to_array
from ctvlm.registry import METRICS

_COUNTS = ("found", "false", "missed")
_MEANS = ("iou", "dice", "peak_hit", "peak_distance_mm", "slice_error_mm", "centroid_distance_mm")

_WIDTH = len(_MEANS) + len(_COUNTS)


@METRICS.register_module()
class LocalisationMetric(CaseMetric):
    """Scores of every lesion that a step names and a mask shows, one lesion of one step a finding.

    Reads ``lesion_map`` (D, H, W; lesion ids), ``steps`` with their ``lesion``, ``spacing`` (mm, z y x), and either
    ``pred_lesion_map`` (D, H, W; the same ids: IoU, Dice, centroid) or ``pred_step_attention`` (S, N) with
    ``pred_grid`` (d, h, w). Attention is spread linearly between the patches' centres, and becomes a mask above
    ``share_of_peak`` of its peak. Lesions that lie outside a cropped volume do not count. Scores are means over
    findings, distances medians as well as means; ``instance_...`` counts the connected parts of both masks over all
    findings (see ``instance_counts``). NaN where no finding counts, or where the prediction has no such score.

    Args:
        thresholds: Dice from which a finding counts as hit (``hit@t``); 0.1 is ReXGroundingCT's.
        share_of_peak: see ``heat_to_mask``.
        per_finding: also Dice and hits of each entity that steps name.
    """

    default_prefix = "localisation"

    def __init__(
        self,
        thresholds: Sequence[float] = (0.1, 0.3, 0.5),
        share_of_peak: float = 0.5,
        per_finding: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.thresholds = tuple(thresholds)
        self.share_of_peak = share_of_peak
        self.per_finding = per_finding

    def record(self, sample: dict) -> dict[str, Any] | None:
        if sample.get("lesion_map") is None:
            return None
        lesions, spacing = to_array(sample["lesion_map"]), sample["spacing"]
        predicted = sample.get("pred_lesion_map")
        rows, entities = [], []
        for number, step in enumerate(sample["steps"]):
            lesion = step_field(step, "lesion")
            if lesion is None or not (truth := lesions == lesion).any():
                continue
            if predicted is None and not says_something(step_field(step, "text")):
                continue  # attention of a text that is not there
            heat = None
            if predicted is not None:
                mask = to_array(predicted) == lesion
            else:
                heat = to_array(sample["pred_step_attention"])[number]
                heat = patches_to_voxels(heat, [int(n) for n in sample["pred_grid"]], truth.shape, smooth=True)
                mask = heat_to_mask(heat, self.share_of_peak)
            row = {
                "iou": mask_iou(mask, truth),
                "dice": mask_dice(mask, truth),
                "centroid_distance_mm": centroid_distance_mm(mask, truth, spacing),
            }
            if heat is not None:
                row["peak_hit"] = peak_hit(heat, truth)
                row["peak_distance_mm"] = peak_distance_mm(heat, truth, spacing)
                row["slice_error_mm"] = slice_error_mm(heat, truth, spacing)
            counts = instance_counts(connected_instances(mask), connected_instances(truth))
            rows.append([*(row.get(name, float("nan")) for name in _MEANS), *counts])
            entities.append(tuple(step_field(step, "entities") or ()))
        return {"rows": np.array(rows, dtype=np.float64).reshape(-1, _WIDTH), "entities": entities}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        def summary(index: np.ndarray) -> dict[str, float]:
            return self._summary(np.concatenate([np.zeros((0, _WIDTH)), *(cases[i]["rows"] for i in index)]))

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        if self.per_finding and cases:
            rows = np.concatenate([case["rows"] for case in cases])
            named = [entities for case in cases for entities in case["entities"]]
            for entity in sorted({entity for entities in named for entity in entities}):
                own = self._summary(rows[[entity in entities for entities in named]])
                metrics |= {
                    f"{entity}/{name}": own[name] for name in ("dice", *(f"hit@{t:g}" for t in self.thresholds))
                }
        return {**metrics, "num_findings": sum(len(case["rows"]) for case in cases)}

    def _summary(self, rows: np.ndarray) -> dict[str, float]:
        summary = {name: mean_defined(rows[:, number]) for number, name in enumerate(_MEANS)}
        for name in ("peak_distance_mm", "slice_error_mm"):
            values = rows[:, _MEANS.index(name)]
            values = values[~np.isnan(values)]
            summary[f"{name}_median"] = float(np.median(values)) if len(values) else float("nan")
        summary |= instance_scores(*rows[:, len(_MEANS) :].sum(axis=0))
        hits = hit_rate(rows[:, _MEANS.index("dice")], self.thresholds)
        return {**summary, **{f"hit@{t:g}": value for t, value in hits.items()}}
