"""Who goes into which split: by patient, the same on every machine."""

from __future__ import annotations

import hashlib

from ctvlm.datasets.conversion.found import Found

# A split further to the left keeps its patients: an evaluation set stays whole, training gives way.
PROTECTED = ("test", "val", "train")


def share_of_patient(patient_id: str) -> float:
    """A number in [0, 1) that depends on nothing but the patient's id, whatever else lies in the data set."""
    # Not a checksum such as CRC-32: ids that differ by a digit must fall as if at random.
    return int.from_bytes(hashlib.sha256(patient_id.encode()).digest()[:8], "big") / 2**64


def carve(split: str, patient_id: str, fraction: float, name: str = "val") -> str:
    """Move a share of the training patients into the split ``name``; other splits stay as published."""
    return name if split == "train" and share_of_patient(patient_id) < fraction else split


def three_way(patient_id: str, val: float, test: float) -> str:
    """A split for a data set that publishes none."""
    share = share_of_patient(patient_id)
    return "val" if share < val else "test" if share < val + test else "train"


def drop_leaks(found: Found) -> Found:
    """Where a patient is in several splits, keep them in the most protected one; the other cases are dropped."""

    def rank(split: str) -> int:
        return PROTECTED.index(split) if split in PROTECTED else len(PROTECTED)

    home: dict[str, str] = {}
    for case in found.cases:
        split = home.setdefault(case["patient_id"], case["split"])
        if (rank(case["split"]), case["split"]) < (rank(split), split):
            home[case["patient_id"]] = case["split"]
    kept, dropped = [], list(found.dropped)
    for case in found.cases:
        split = home[case["patient_id"]]
        if case["split"] == split:
            kept.append(case)
        else:
            reason = f"its patient is also in split {split!r}; a patient belongs to one split"
            dropped.append((case["case_id"], reason))
    return Found(kept, dropped, found.notes)
