"""Assignment of patients to splits, reproducible on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ctvlm.datasets.conversion.case_list import CaseList

# In order of priority: a patient of several splits stays in the first one, so that evaluation sets stay complete.
PRIORITY = ("test", "val", "train")


def share_of_patient(patient_id: str) -> float:
    """Map a patient id to a number in [0, 1), independent of the other patients."""
    # A cryptographic hash, because checksums such as CRC-32 are correlated for similar ids.
    return int.from_bytes(hashlib.sha256(patient_id.encode()).digest()[:8], "big") / 2**64


def carve(split: str, patient_id: str, fraction: float, name: str = "val") -> str:
    """Return split ``name`` for a fraction of the training patients; other splits are unchanged."""
    return name if split == "train" and share_of_patient(patient_id) < fraction else split


def three_way(patient_id: str, val: float, test: float) -> str:
    """Return train, val or test for a patient of a data set without published splits."""
    share = share_of_patient(patient_id)
    return "val" if share < val else "test" if share < val + test else "train"


def fill_splits(cases: list[dict], val: float, test: float) -> tuple[list[dict], str]:
    """Split cases by patient. Every requested split gets at least one patient if possible.

    The order of the patients depends only on their ids, so adding a case moves few of the others.

    Args:
        val: fraction of the patients for validation; 0 for no such split.
        test: fraction of the patients for testing; 0 for no such split.

    Returns:
        The cases, and a remark if there are too few patients (otherwise "").
    """
    split_of = split_patients({case["patient_id"] for case in cases}, val, test)
    filled = [{**case, "split": split_of[case["patient_id"]]} for case in cases]
    wanted = [name for name, share in (("train", 1), ("val", val), ("test", test)) if share]
    missing = [name for name in wanted if name not in split_of.values()]
    note = ""
    if missing and cases:
        count = f"{len(split_of)} patient{'s' * (len(split_of) > 1)}"
        note = (
            f"{count} cannot fill {', '.join(wanted[:-1])} and {wanted[-1]}, because a patient belongs to one split: "
            f"no case is in {' or '.join(missing)}{', which training needs' * ('val' in missing)}; add patients"
        )
    return filled, note


def split_patients(patients: Iterable[str], val: float, test: float) -> dict[str, str]:
    """Return the split of each patient. Two patients give no test split, one patient gives only train.

    Raises:
        ValueError: a fraction is negative, or nothing remains for training.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise ValueError(
            f"found fractions {val:g} (val) and {test:g} (test); expected at least 0 each and a sum below 1"
        )
    ordered = sorted(patients, key=lambda patient: (share_of_patient(patient), patient))
    room = len(ordered) - 1  # for the evaluation splits; training keeps one patient
    counts = {}
    for name, share in (("val", val), ("test", test)):
        counts[name] = min(max(round(share * len(ordered)), 1), room) if share else 0
        room -= counts[name]
    if test and counts["val"] > 1 and not counts["test"]:
        counts["val"], counts["test"] = counts["val"] - 1, 1
    names = ["val"] * counts["val"] + ["test"] * counts["test"]
    names += ["train"] * (len(ordered) - len(names))
    return dict(zip(ordered, names))


def drop_leaks(listed: CaseList) -> CaseList:
    """Keep each patient in one split, the first of ``PRIORITY``, and drop the patient's cases in other splits."""

    def rank(split: str) -> int:
        return PRIORITY.index(split) if split in PRIORITY else len(PRIORITY)

    split_of: dict[str, str] = {}
    for case in listed.cases:
        split = split_of.setdefault(case["patient_id"], case["split"])
        if (rank(case["split"]), case["split"]) < (rank(split), split):
            split_of[case["patient_id"]] = case["split"]
    kept, dropped = [], list(listed.dropped)
    for case in listed.cases:
        split = split_of[case["patient_id"]]
        if case["split"] == split:
            kept.append(case)
        else:
            reason = f"the patient is also in split {split!r}; a patient must be in one split"
            dropped.append((case["case_id"], reason))
    return CaseList(kept, dropped, listed.notes)
