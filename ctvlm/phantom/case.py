"""A seed becomes a case: plan, drawing, text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctvlm.phantom import abdomen, body, chest
from ctvlm.phantom.acquisition import acquire
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings import FINDINGS
from ctvlm.phantom.plan import Plan, sample_plan
from ctvlm.phantom.reasoning import write_report

# Painter's order: what comes later covers what came before.
ANATOMY = (
    body.draw_body, body.draw_ribs, abdomen.draw_kidneys, abdomen.draw_liver, abdomen.draw_spleen,
    abdomen.draw_gallbladder, abdomen.draw_pancreas, abdomen.draw_stomach, abdomen.draw_bowel, chest.draw_lungs,
    chest.draw_mediastinum, chest.draw_heart, chest.draw_aorta, chest.draw_esophagus, chest.draw_lung_vessels,
    chest.draw_airways, chest.draw_thyroid, body.draw_spine,
)  # fmt: skip


@dataclass(frozen=True)
class PhantomCase:
    """One phantom: arrays (D, H, W), geometry, text and labels. Keys are those of a case manifest.

    ``region_map`` holds ids of `thorax_abdomen_20`, ``lesion_map`` the ids that ``cot`` steps name in ``lesion``.
    ``spacing`` is in mm (z, y, x); ``affine`` sends voxel (x, y, z, 1) to RAS+ mm.
    """

    seed: int
    case_id: str
    patient_id: str
    volume: np.ndarray
    region_map: np.ndarray
    lesion_map: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray
    report: dict[str, str]
    cot: tuple[dict, ...]
    labels: dict[str, int | None]


def draw_plan(plan: Plan, shape: Sequence[int]) -> tuple[np.ndarray, Canvas]:
    """Volume int16 (D, H, W) and the canvas with the region and lesion maps."""
    if len(shape) != 3 or min(shape) < 8:
        raise ValueError(f"shape must be three sizes (D, H, W) of at least 8 voxels, got {tuple(shape)}")
    canvas = Canvas(plan.patient, shape)
    for draw in ANATOMY:
        draw(canvas)
    for f in plan.findings:
        FINDINGS[f.kind].draw(canvas, f)
    body.draw_table(canvas)
    return acquire(canvas, plan.noise_seed), canvas


def generate_case(
    seed: int,
    shape: Sequence[int] = (24, 96, 96),
    case_id: str | None = None,
    patient_id: str | None = None,
    field: str = "chest_abdomen",
) -> PhantomCase:
    """The case of a seed: the same bytes wherever it is drawn, the same patient in whatever shape and field."""
    plan = sample_plan(seed, field)
    volume, canvas = draw_plan(plan, shape)
    report = write_report(plan)
    spacing = tuple(float(s) for s in canvas.spacing)
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    affine[:3, 3] = canvas.phys_x[0], canvas.phys_y[0], plan.base.scan_z[0] + spacing[0] / 2
    case_id = case_id or f"phantom_{seed}"
    return PhantomCase(
        seed=seed,
        case_id=case_id,
        patient_id=patient_id or f"{case_id}_patient",
        volume=volume,
        region_map=canvas.region,
        lesion_map=canvas.lesion,
        spacing=spacing,
        affine=affine,
        report=dict(findings=report.findings, impression=report.impression),
        cot=report.steps,
        labels=report.labels,
    )
