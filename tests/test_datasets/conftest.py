"""Tiny data set on disk: three cases with CT, TotalSegmentator-like region map and lesion mask."""

from __future__ import annotations

import numpy as np
import pytest

from ctvlm.datasets import write_manifest
from ctvlm.volume import CTVolume, write_nifti


def draw(seed: int) -> tuple[CTVolume, np.ndarray, np.ndarray]:
    """Draw a box of tissue in air with a liver, a right and a left kidney (TotalSegmentator v2 ids), and a lesion."""
    rng = np.random.default_rng(seed)
    hu = np.full((12, 20, 24), -1000, np.int16)
    hu[1:11, 2:18, 2:22] = 20
    labels, lesion = np.zeros(hu.shape, np.uint8), np.zeros(hu.shape, np.uint8)
    for label, value, box in (
        (5, 60 + seed, (slice(5, 10), slice(4, 12), slice(12, 20))),
        (2, 35, (slice(2, 5), slice(4, 8), slice(14, 18 + seed % 2))),
        (3, 35, (slice(2, 5), slice(4, 8), slice(5, 9))),
    ):
        labels[box], hu[box] = label, value
    lesion[6:8, 6:8, 13:15] = 1
    hu[lesion > 0] = 5
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    return CTVolume(hu + rng.integers(-2, 3, hu.shape).astype(np.int16), affine), labels, lesion


@pytest.fixture
def case_folder(tmp_path):
    cases = []
    for number, split in enumerate(("train", "train", "val")):
        ct, labels, lesion = draw(number)
        names = {kind: f"p{number}/{kind}.nii.gz" for kind in ("ct", "seg", "lesion")}
        for kind, array in (("ct", ct.array), ("seg", labels), ("lesion", lesion)):
            write_nifti(ct.with_array(array), tmp_path / names[kind])
        case = dict(case_id=f"p{number}", patient_id=f"p{number}", split=split, volume=names["ct"])
        case["region_map"] = dict(path=names["seg"], source="totalsegmentator_v2")
        case["lesion_masks"] = [dict(path=names["lesion"], id=1, name="liver cyst")]
        if number == 1:
            case["report"] = dict(findings="A cyst in the liver.", impression="Liver cyst.")
            case["cot"] = [dict(step=1, text="A cyst in the liver.", regions=["liver"], entities=["cyst"], lesion=1)]
            case["labels"] = {"Cyst": 1, "Stone": None}
        cases.append(case)
    write_manifest(cases, tmp_path / "cases.jsonl")
    return tmp_path
