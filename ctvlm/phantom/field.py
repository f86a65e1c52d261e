"""Field of view of a scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctvlm.phantom.patient import Patient

FIELDS = ("chest_abdomen", "any")
# Template mm: the anatomy is not drawn in detail below the kidneys and above the neck.
LOWEST, HIGHEST = -205.0, 212.0


def set_field(patient: Patient, field: str, rng: np.random.Generator) -> Patient:
    """The same patient with another field of view.

    ``'chest_abdomen'`` keeps the scan of ``sample_patient``, from the neck to below the diaphragm. ``'any'`` imitates
    real collections: two of three scans are slabs of 75 to 330 mm at any height (an abdomen, the lung bases), and one
    of four shows only one side of the body, like a reconstruction zoomed on a lung. Lung density is uniform from nearly
    air (-985 HU) to expiration (-720 HU), so a model must tell lung from air by position: trained only with densities
    near -850 HU, a model classified a real lung of -944 HU as air.

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
        # As wide as the body is deep, so that its front and back remain in view.
        side = int(rng.choice((-1, 1)))
        fov = float(rng.uniform(215, 265) * scale[1] + 1.2 * patient.fat)
        center = (patient.fov_center[0], float(side * rng.uniform(65, 115) * scale[2]))
        patient = replace(patient, fov=fov, fov_center=center, side=side)
    return patient
