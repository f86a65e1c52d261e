"""What of a patient a scan covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctvlm.phantom.patient import Patient

FIELDS = ("chest_abdomen", "any")
# Template mm: nothing is drawn with care below the kidneys and above the neck.
LOWEST, HIGHEST = -205.0, 212.0


def set_field(patient: Patient, field: str, rng: np.random.Generator) -> Patient:
    """The same patient scanned otherwise.

    ``'chest_abdomen'`` keeps the scan from the neck to below the diaphragm that ``sample_patient`` drew. ``'any'`` is
    what real collections hold: two in three are slabs of 75 to 330 mm at any height (an abdomen, the lung bases), one
    in four shows one side of the body only, as a reconstruction zoomed on a lung does, and lungs are anywhere from
    nearly air (-985 HU) to expired (-720 HU), each as often: where they lie has to tell them from air. With a density
    near -850 HU only, a model took a real lung at -944 HU for air.

    Raises:
        ValueError: an unknown field.
    """
    if field not in FIELDS:
        raise ValueError(f"field is {field!r}; expected one of {', '.join(FIELDS)}")
    if field == "chest_abdomen":
        return patient
    scale = patient.scale
    patient = replace(patient, lung_hu=float(rng.uniform(-985, -720)))
    if rng.random() < 0.67:
        length = rng.uniform(75, 330)
        bottom = rng.uniform(LOWEST, HIGHEST - length)
        patient = replace(patient, scan_z=(bottom * scale[0], (bottom + length) * scale[0]))
    if rng.random() < 0.25:
        # As wide as the body is deep, so that front and back stay in view.
        side = int(rng.choice((-1, 1)))
        fov = float(rng.uniform(215, 265) * scale[1] + 1.2 * patient.fat)
        center = (patient.fov_center[0], float(side * rng.uniform(65, 115) * scale[2]))
        patient = replace(patient, fov=fov, fov_center=center, side=side)
    return patient
