"""Localisation of lesions by step attention or predicted masks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.instances import (
    connected_instances,
    instance_counts,
    instance_counts_by_distance,
    instance_scores,
)
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
from ctvlm.evaluation.metrics.case_metric import has_text, step_field, to_array
from ctvlm.evaluation.metrics.step_metric import StepMetric, step_stage
from ctvlm.registry import METRICS

# ReXGroundingCT removes predicted components below this size.
_MIN_VOXELS = 10
_KINDS = ("instance", "instance_assd", "instance_centroid")
_MEANS = ("iou", "dice", "peak_hit", "peak_distance_mm", "slice_error_mm", "centroid_distance_mm")
# Each kind of matching has three counts: TP, FP and FN.
_WIDTH = len(_MEANS) + 3 * len(_KINDS)


@METRICS.register_module()
class LocalisationMetric(StepMetric):
    """Localisation scores of lesions. A finding is a step together with its lesion mask.

    Reads ``lesion_map`` (D, H, W; lesion ids), ``steps`` with ``lesion``, ``spacing`` (mm, z y x), and either
    ``pred_lesion_map`` (D, H, W; the same ids) or ``pred_step_attention`` (S, N) with ``pred_grid`` (d, h, w).
    Attention is interpolated linearly between the centres of patches; voxels above half of its peak form the mask.
    Lesions outside a cropped volume are excluded. Scores are means over findings; distances also have medians. NaN
    without findings, or if the prediction does not define the score.

    The instance scores are ReXGroundingCT's precision, recall and F1 over all findings. Instances are the connected
    components (18 neighbours) of both masks, without predicted components of fewer than 10 voxels. They are matched by
    Dice (``instance_...``, see ``instance_counts``) and by distance (see ``instance_counts_by_distance``): ASSD
    (``instance_assd_...``) or centroids (``instance_centroid_...``). ReXGroundingCT uses centroids for focal findings
    and ASSD for the others; steps do not have this distinction, so both are reported.

    Args:
        thresholds: minimum Dice of a hit (``hit@t``); ReXGroundingCT uses 0.1.
        per_finding: also report Dice and hits of each entity.
    """

    default_prefix = "localisation"
    per_step = ("rows", "entities")
    needs = frozenset({"lesion_map", "steps", "spacing", "pred_lesion_map", "pred_step_attention", "pred_grid"})

    def __init__(
        self,
        thresholds: Sequence[float] = (0.1, 0.3, 0.5),
        per_finding: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.thresholds = tuple(thresholds)
        self.per_finding = per_finding

    def missing_keys(self, available: Collection[str]) -> list[str]:
        masks, attention = {"pred_lesion_map"}, {"pred_step_attention", "pred_grid"}
        return sorted(set(super().missing_keys(available)) - (attention if masks <= set(available) else masks))

    def record(self, sample: dict) -> dict[str, Any] | None:
        if sample.get("lesion_map") is None:
            return None
        lesions, spacing = to_array(sample["lesion_map"]), sample["spacing"]
        predicted = sample.get("pred_lesion_map")
        rows, entities, stages = [], [], []
        for number, step in enumerate(sample["steps"]):
            lesion = step_field(step, "lesion")
            if lesion is None or not (truth := lesions == lesion).any():
                continue
            if predicted is None and not has_text(step_field(step, "text")):
                continue  # a step without text has no attention
            heat = None
            if predicted is not None:
                mask = to_array(predicted) == lesion
            else:
                heat = to_array(sample["pred_step_attention"])[number]
                heat = patches_to_voxels(heat, [int(n) for n in sample["pred_grid"]], truth.shape, smooth=True)
                mask = heat_to_mask(heat)
            row = {
                "iou": mask_iou(mask, truth),
                "dice": mask_dice(mask, truth),
                "centroid_distance_mm": centroid_distance_mm(mask, truth, spacing),
            }
            if heat is not None:
                row["peak_hit"] = peak_hit(heat, truth)
                row["peak_distance_mm"] = peak_distance_mm(heat, truth, spacing)
                row["slice_error_mm"] = slice_error_mm(heat, truth, spacing)
            maps = connected_instances(mask, _MIN_VOXELS), connected_instances(truth)
            counts = [
                *instance_counts(*maps),
                *instance_counts_by_distance(*maps, spacing),
                *instance_counts_by_distance(*maps, spacing, focal=True),
            ]
            rows.append([*(row.get(name, float("nan")) for name in _MEANS), *counts])
            entities.append(tuple(step_field(step, "entities") or ()))
            stages.append(step_stage(step))
        rows_array = np.array(rows, dtype=np.float64).reshape(-1, _WIDTH)
        return {"rows": rows_array, "entities": entities, "stages": stages}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        def summary(index: np.ndarray) -> dict[str, float]:
            return self._summary(np.concatenate([np.zeros((0, _WIDTH)), *(cases[i]["rows"] for i in index)]))

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        if self.per_finding and cases:
            rows = np.concatenate([case["rows"] for case in cases])
            entities_of = [entities for case in cases for entities in case["entities"]]
            for entity in sorted({entity for entities in entities_of for entity in entities}):
                own = self._summary(rows[[entity in entities for entities in entities_of]])
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
        counts = rows[:, len(_MEANS) :].sum(axis=0).reshape(len(_KINDS), 3)
        for kind, of_kind in zip(_KINDS, counts, strict=True):
            tp, fp, fn = (float(count) for count in of_kind)
            summary |= instance_scores(tp, fp, fn, kind)
        hits = hit_rate(rows[:, _MEANS.index("dice")], self.thresholds)
        return {**summary, **{f"hit@{t:g}": value for t, value in hits.items()}}
