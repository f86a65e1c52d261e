"""Generate a case from a seed: plan, drawing, text."""

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

# In drawing order: later structures cover earlier ones.
ANATOMY = (
    body.draw_body, body.draw_ribs, abdomen.draw_kidneys, abdomen.draw_liver, abdomen.draw_spleen,
    abdomen.draw_gallbladder, abdomen.draw_pancreas, abdomen.draw_stomach, abdomen.draw_bowel, chest.draw_lungs,
    chest.draw_mediastinum, chest.draw_heart, chest.draw_aorta, chest.draw_esophagus, chest.draw_lung_vessels,
    chest.draw_airways, chest.draw_thyroid, body.draw_spine,
)  # fmt: skip


@dataclass(frozen=True)
class CaseData:
    """A phantom without its label maps. Names are the keys of a case manifest.

    ``volume`` is int16 (D, H, W) in HU; ``spacing`` is in mm (z, y, x); ``affine`` maps voxel (x, y, z, 1) to RAS+ mm.
    """

    seed: int
    case_id: str
    patient_id: str
    volume: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray
    report: dict[str, str]
    cot: tuple[dict, ...]
    labels: dict[str, int | None]


@dataclass(frozen=True)
class PhantomCase(CaseData):
    """A phantom: image, label maps (D, H, W), geometry, text and labels.

    ``region_map`` contains ids of `thorax_abdomen_20`, ``lesion_map`` the ids in ``lesion`` of the steps in ``cot``.
    """

    region_map: np.ndarray
    lesion_map: np.ndarray


def draw_plan(plan: Plan, shape: Sequence[int]) -> tuple[np.ndarray, Canvas]:
    """Draw a plan; returns the volume, int16 (D, H, W), and the canvas with the region and lesion maps.

    Raises:
        ValueError: ``shape`` is not three sizes of at least 8.
    """
    if len(shape) != 3 or min(shape) < 8:
        raise ValueError(f"shape is {tuple(shape)}; expected (D, H, W), each at least 8 voxels")
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
    """Generate the case of a seed: identical bytes on every machine, and the same patient for every shape and field."""
    plan = sample_plan(seed, field)
    volume, canvas = draw_plan(plan, shape)
    report = write_report(plan)
    dz, dy, dx = canvas.spacing
    spacing = (float(dz), float(dy), float(dx))
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
