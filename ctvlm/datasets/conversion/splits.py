"""Who goes into which split: by patient, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ctvlm.datasets.conversion.case_list import CaseList

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


def fill_splits(cases: list[dict], val: float, test: float) -> tuple[list[dict], str]:
    """Cases with their split by patient: train, val and test each get at least one patient where asked for.

    The order of the patients depends on their ids only, so that a case that is added moves few of the others.

    Args:
        val: share of the patients for validation; 0 for no such split.
        test: the same for the test.

    Returns:
        The cases, and a remark where there are too few patients, else "".
    """
    split_of = split_patients({case["patient_id"] for case in cases}, val, test)
    filled = [{**case, "split": split_of[case["patient_id"]]} for case in cases]
    wanted = [name for name, share in (("train", 1), ("val", val), ("test", test)) if share]
    missing = [name for name in wanted if name not in split_of.values()]
    note = ""
    if missing and cases:
        count = f"{len(split_of)} patient{'s' * (len(split_of) > 1)}"
        note = (
            f"{count} cannot fill {', '.join(wanted[:-1])} and {wanted[-1]}, as a patient belongs to one split: no "
            f"case is in {' or '.join(missing)}{', which training validates on' * ('val' in missing)}; add patients"
        )
    return filled, note


def split_patients(patients: Iterable[str], val: float, test: float) -> dict[str, str]:
    """Split of each patient. With two patients there is no test, with one there is only train.

    Raises:
        ValueError: shares below 0, or that leave nothing for training.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise ValueError(f"shares {val:g} (val) and {test:g} (test); expected 0 or more each, and less than 1 together")
    ordered = sorted(patients, key=lambda patient: (share_of_patient(patient), patient))
    room = len(ordered) - 1  # for the evaluation splits: training keeps one
    counts = {}
    for name, share in (("val", val), ("test", test)):
        counts[name] = min(max(round(share * len(ordered)), 1), room) if share else 0
        room -= counts[name]
    if test and counts["val"] > 1 and not counts["test"]:
        counts["val"], counts["test"] = counts["val"] - 1, 1
    names = ["val"] * counts["val"] + ["test"] * counts["test"]
    names += ["train"] * (len(ordered) - len(names))
    return dict(zip(ordered, names))


def drop_leaks(found: CaseList) -> CaseList:
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
    return CaseList(kept, dropped, found.notes)
