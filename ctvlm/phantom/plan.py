"""Plan of a case: patient, scanner, findings and text seed. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ctvlm.phantom.field import set_field
from ctvlm.phantom.findings import FINDINGS, Finding
from ctvlm.phantom.patient import Patient, sample_patient

COUNTS = (0.08, 0.30, 0.34, 0.21, 0.07)  # probability of 0, 1, 2, 3, 4 findings

# Template z range (mm) that must be in the scan for a region to be mentioned.
REGION_Z: dict[str, tuple[float, float]] = {
    "lung_upper_lobe_right": (20, 140), "lung_middle_lobe_right": (-20, 45), "lung_lower_lobe_right": (-60, 60),
    "lung_upper_lobe_left": (0, 140), "lung_lower_lobe_left": (-60, 60), "trachea": (75, 150), "heart": (-20, 62),
    "aorta": (-60, 115), "mediastinum": (0, 140), "esophagus": (-30, 150), "thyroid": (164, 196), "liver": (-80, 0),
    "gallbladder": (-98, -72), "spleen": (-90, -30), "stomach": (-90, -30), "pancreas": (-102, -66),
    "kidney_right": (-138, -90), "kidney_left": (-130, -75), "spine": (-60, 140), "rib_cage": (-60, 140),
}  # fmt: skip
# Regions that a scan of one side shows completely.
ON_SIDE = {
    1: {"lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right", "gallbladder", "kidney_right"},
    -1: {"lung_upper_lobe_left", "lung_lower_lobe_left", "spleen", "kidney_left"},
}


@dataclass(frozen=True)
class Plan:
    """Everything about a case that does not depend on the shape of the volume.

    ``patient`` is the patient that is drawn: ``base`` with the findings of whole organs applied.
    """

    seed: int
    base: Patient
    findings: tuple[Finding, ...]
    text_seed: int
    noise_seed: int

    @property
    def patient(self) -> Patient:
        patient = self.base
        for f in self.findings:
            modify = FINDINGS[f.kind].modify
            if modify is not None:
                patient = modify(patient, f)
        return patient

    def without(self, *lesions: int) -> Plan:
        """The same case without the findings of these lesion ids; the other findings keep their ids."""
        return replace(self, findings=tuple(f for f in self.findings if f.lesion not in lesions))


def in_scan(patient: Patient, z: tuple[float, float], margin: float = 4.0) -> bool:
    """Whether the scan contains a template z range."""
    low, high = patient.template_z
    return low + margin <= z[0] and z[1] <= high - margin


def in_view(patient: Patient, regions: Iterable[str]) -> bool:
    """Whether the scan is wide enough to show these regions completely."""
    return patient.side == 0 or (bool(regions) and ON_SIDE[patient.side].issuperset(regions))


def sample_findings(patient: Patient, rng: np.random.Generator) -> tuple[Finding, ...]:
    """Sample findings at sites in the scan, at most one per region."""
    count = int(rng.choice(len(COUNTS), p=COUNTS))
    options = []
    for kind in FINDINGS.values():
        sites = [s for s in kind.sites if in_scan(patient, s.z) and in_view(patient, s.regions)]
        if sites:
            options.append((kind, sites))
    occupied: set[str] = set()
    chosen: list[Finding] = []
    while len(chosen) < count:
        free = []
        for kind, sites in options:
            sites_left = [s for s in sites if not occupied.intersection(s.regions + s.claims)]
            if sites_left and all(f.kind != kind.name for f in chosen):
                free.append((kind, sites_left))
        if not free:  # a short scan has few sites
            break
        weights = np.array([kind.weight for kind, _ in free])
        kind, sites_left = free[rng.choice(len(free), p=weights / weights.sum())]
        site = sites_left[rng.integers(len(sites_left))]
        size = list(kind.sizes)[rng.integers(len(kind.sizes))]
        amount = float(rng.uniform(*kind.sizes[size]))
        occupied.update(site.regions + site.claims)
        chosen.append(Finding(kind.name, site, size, amount, len(chosen) + 1, int(rng.integers(2**31))))
    return tuple(chosen)


def sample_plan(seed: int, field: str = "chest_abdomen") -> Plan:
    """Sample the plan of a seed, identical on every machine and for every shape. ``field``: see ``set_field``.

    Raises:
        ValueError: a negative seed or an unknown field.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    patient_seq, findings_seq, text_seq, noise_seq, field_seq = np.random.SeedSequence(seed).spawn(5)
    patient = set_field(sample_patient(np.random.default_rng(patient_seq)), field, np.random.default_rng(field_seq))
    findings = sample_findings(patient, np.random.default_rng(findings_seq))
    return Plan(seed, patient, findings, int(text_seq.generate_state(1)[0]), int(noise_seq.generate_state(1)[0]))
