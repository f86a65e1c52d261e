"""Small random cases: results of a data pipeline, and predictions of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ctvlm.anatomy import RegionScheme
from ctvlm.structures import CoTStep, CTDataSample
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.text.opposites import KINDS

_SCHEME = RegionScheme.load()


def pipeline_case() -> dict[str, Any]:
    """A case with arrays, as transforms receive it after loading: two lung lobes, a kidney and a lesion."""
    volume = np.full((12, 20, 24), -1000, np.int16)
    region_map = np.zeros(volume.shape, np.uint8)
    lesion_map = np.zeros(volume.shape, np.uint8)
    names = ("lung_upper_lobe_right", "lung_upper_lobe_left", "kidney_right")
    boxes = (np.s_[5:11, 4:16, 14:21], np.s_[5:11, 4:16, 3:10], np.s_[1:4, 4:8, 15:19])
    for name, box, value in zip(names, boxes, (-800, -820, 30)):
        region_map[box], volume[box] = _SCHEME.id_of(name), value
    lesion_map[6:8, 6:9, 15:18] = 1
    return dict(
        case_id="case_0",
        patient_id="patient_0",
        split="train",
        scheme=_SCHEME.name,
        volume=volume,
        region_map=region_map,
        lesion_map=lesion_map,
        affine=np.diag([2.0, 2.0, 4.0, 1.0]),
        spacing=(4.0, 2.0, 2.0),
        report=dict(findings="Nodule in the right upper lobe. No effusion.", impression="Right upper lobe nodule."),
        cot=[
            dict(
                step=1,
                text="A nodule in the right upper lobe. It measures 8 mm.",
                regions=["lung_upper_lobe_right"],
                entities=["right nodule"],
                lesion=1,
            ),
            dict(step=2, text="Normal right kidney.", regions=["kidney_right"], entities=[], lesion=None),
        ],
        labels={"Lung nodule": 1},
    )


def predicted_case(number: int) -> CTDataSample:
    """A case with the predictions of a model, drawn from ``number``.

    Two cases belong to one patient. Some impressions are equal. Every third case has unknown labels.
    """
    rng = np.random.default_rng(number)
    regions, width, grid = 4, 6, (2, 2, 2)
    volume_P = _unit(rng, width)
    lesion_map = torch.zeros(4, 4, 4, dtype=torch.uint8)
    lesion_map[tuple(rng.integers(0, 4, 3))] = 1
    case = CTDataSample(metainfo=dict(case_id=f"case_{number}", patient_id=f"patient_{number // 2}"))
    case.set_metainfo(dict(spacing=(3.0, 1.0, 1.0), volume_shape=(4, 4, 4)))
    case.impression = f"Impression {number if number % 7 else 0}."
    case.findings = f"Nodule of {number} mm in a lobe."
    case.steps = [
        CoTStep("A nodule.", (1, 2), ("nodule",), 1),
        CoTStep(f"Step {number}.", (3,), ("cyst",) if number % 3 else ()),
    ]
    values = [0, 1] if number % 3 else [0, 1, None]
    case.labels = {name: values[int(rng.integers(len(values)))] for name in CT_RATE_LABELS}
    case.lesion_map = lesion_map
    occupancy = rng.dirichlet(np.ones(regions + 1), 8) * (rng.random((8, regions + 1)) < 0.5)
    case.patch_occupancy = torch.tensor(occupancy)
    case.pred_volume = volume_P
    case.pred_impression = volume_P + 0.5 * _unit(rng, width)
    case.pred_regions, case.pred_region_mask = _unit(rng, regions, width), torch.tensor([True, True, True, False])
    case.pred_steps, case.pred_patches, case.pred_step_scale = _unit(rng, 2, width), _unit(rng, 8, width), 10.0
    case.pred_step_attention, case.pred_grid = torch.tensor(rng.random((2, 8))).softmax(-1), grid
    case.pred_opposites = [
        dict(kind=kind, text="A nodule.", opposite=f"Not {kind}.") for kind in KINDS[: 1 + number % 3]
    ]
    case.pred_opposite_texts = _unit(rng, len(case.pred_opposites), 2, width)
    case.pred_report = f"A nodule of {number} mm."
    steps = [
        {"text": f"A nodule in case {number % 3}.", "regions": [_SCHEME.names[number % 4]]},
        {"text": "Normal.", "regions": list(_SCHEME.names[2:4])},
    ]
    case.pred_cot = steps[: number % 3]
    case.pred_report_labels = {name: int(rng.integers(2)) for name in CT_RATE_LABELS}
    case.pred_probabilities = {name: float(rng.random()) for name in CT_RATE_LABELS}
    return case


def _unit(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    x = torch.tensor(rng.normal(size=shape), dtype=torch.float32)
    return x / x.norm(dim=-1, keepdim=True)
