"""Write phantoms in the file layout of CT-RATE: both releases of volumes, the tables with their columns, region maps.

Implemented from the description of CT-RATE, independently of the converter, which is tested with these files.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ctvlm.anatomy import RegionScheme
from ctvlm.utils import atomic_write
from ctvlm.utils.training_data import PHANTOM_SOURCE
from ctvlm.volume import CTVolume, write_nifti

METADATA = (
    "VolumeName,Manufacturer,SeriesDescription,ManufacturerModelName,PatientSex,PatientAge,ReconstructionDiameter,"
    "DistanceSourceToDetector,DistanceSourceToPatient,GantryDetectorTilt,TableHeight,RotationDirection,ExposureTime,"
    "XRayTubeCurrent,Exposure,FilterType,GeneratorPower,FocalSpots,ConvolutionKernel,PatientPosition,RevolutionTime,"
    "SingleCollimationWidth,TotalCollimationWidth,TableSpeed,TableFeedPerRotation,SpiralPitchFactor,"
    "DataCollectionCenterPatient,ReconstructionTargetCenterPatient,ExposureModulationType,CTDIvol,ImagePositionPatient,"
    "ImageOrientationPatient,SliceLocation,SamplesPerPixel,PhotometricInterpretation,Rows,Columns,XYSpacing,"
    "RescaleIntercept,RescaleSlope,RescaleType,NumberofSlices,ZSpacing,StudyDate"
).split(",")
REPORTS = ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
INTERCEPTS = (-1024, -8192)  # both occur in the real metadata
# The volumes' split "valid" is called "validation" in the names of two of the three tables.
TABLES = {
    "radiology_text_reports": "{long}_reports.csv",
    "metadata": "{long}_metadata.csv",
    "multi_abnormality_labels": "{short}_predicted_labels.csv",
}
LONG = {"train": "train", "valid": "validation"}
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_ct_rate(
    results: Sequence[dict] | Callable[[int], dict],
    count: int,
    out: Path,
    tables: Path | None = None,
    releases: Sequence[str] = ("v1", "v2"),
    limit: int | None = None,
) -> Iterator[str]:
    """Write phantoms one by one and yield the CT-RATE name of each volume.

    Args:
        results: ``PhantomCT.results``, or a list of its return values.
        count: number of phantoms.
        tables: folder of CT-RATE's own CSV files. They are copied, and the phantoms take names, spacing, slope and
            intercept from the metadata rows, one phantom per scan in turn. None writes tables of the phantoms.
        releases: releases to write: "v1" (stored values, blank header), "v2" (HU, affine).
        limit: number of rows of ``tables`` for which volumes are written.

    Raises:
        FileNotFoundError: ``tables`` has no metadata file.
    """
    get = results if callable(results) else results.__getitem__
    data = Path(out) / "dataset"
    rows = _copied_rows(Path(tables), data, limit) if tables else _own_rows([get(i) for i in range(count)], data)
    scheme = RegionScheme.load()
    to_source = _unfold(scheme)
    for row, index in rows:
        name, case = row["VolumeName"].removesuffix(".nii.gz"), get(index % count)
        affine = _affine(row)
        slope, intercept = float(row["RescaleSlope"]), float(row["RescaleIntercept"])
        hu = _to_dicom_axes(case["volume"])
        stored = np.rint((hu - intercept) / slope).astype(np.int16)
        if "v1" in releases:
            _save(stored, np.diag([-1.0, -1.0, 1.0, 1.0]), data, "{}", name)
        if "v2" in releases:
            _save(np.rint(stored * slope + intercept).astype(np.int16), affine, data, "{}_fixed", name)
            if case["region_map"] is not None:
                regions = _to_dicom_axes(to_source[case["region_map"]])
                _save(regions, affine, data / "ts_seg" / "ts_total", "{}_fixed", name)
        yield name


def _affine(row: dict[str, str]) -> np.ndarray:
    """Affine from file axes to RAS+ mm, from the DICOM geometry of a metadata row."""
    x, y = np.array(json.loads(row["ImageOrientationPatient"]), dtype=float).reshape(2, 3)
    (along_y, along_x), along_z = json.loads(row["XYSpacing"]), float(row["ZSpacing"])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = x * along_x, y * along_y, np.cross(x, y) * along_z
    affine[:3, 3] = json.loads(row["ImagePositionPatient"])
    return TO_RAS @ affine


def _to_dicom_axes(array: np.ndarray) -> np.ndarray:
    """From (z, y, x) towards superior, anterior, right to (x, y, z) towards left, posterior, superior."""
    return np.ascontiguousarray(array[:, ::-1, ::-1].transpose(2, 1, 0))


def _save(array: np.ndarray, affine: np.ndarray, base: Path, tree: str, name: str) -> None:
    split, patient, letter, _ = name.split("_")
    folder = base / tree.format(split) / f"{split}_{patient}" / f"{split}_{patient}_{letter}"
    write_nifti(CTVolume(array.transpose(2, 1, 0), affine), folder / f"{name}.nii.gz", description=PHANTOM_SOURCE)


def _unfold(scheme: RegionScheme, source: str = "totalsegmentator_v2") -> np.ndarray:
    """Table from region id to the id of a class of ``source`` that folds into it."""
    table = np.zeros(scheme.num_regions + 1, np.uint8)
    for number, name in reversed(list(enumerate(scheme.id_tables[source], start=1))):
        if len(ids := scheme.ids_of_class(name)) == 1:
            table[ids[0]] = number
    return table


def _copied_rows(tables: Path, data: Path, limit: int | None) -> list[tuple[dict[str, str], int]]:
    metadata = sorted(tables.glob("*_metadata.csv"))
    if not metadata:
        raise FileNotFoundError(f"{tables}: found no *_metadata.csv; expected the tables of CT-RATE")
    for folder, pattern in TABLES.items():
        ending = pattern.split("}")[1].removesuffix(".csv")
        for path in sorted(tables.glob(f"*{ending}*.csv")):
            with atomic_write(data / folder / path.name) as part:
                shutil.copyfile(path, part)
    rows: list[dict[str, str]] = []
    for path in metadata:
        with open(path, encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    scans: dict[str, int] = {}
    return [(row, scans.setdefault(row["VolumeName"].rsplit("_", 1)[0], len(scans))) for row in rows[:limit]]


def _own_rows(cases: list[dict], data: Path) -> list[tuple[dict[str, str], int]]:
    """Write tables that describe the phantoms; splits other than "train" become "valid"."""
    rows: dict[str, list[tuple[dict, dict, dict]]] = {}
    indexed = []
    for i, case in enumerate(cases):
        split = "train" if case["split"] == "train" else "valid"
        volume = f"{split}_{len(rows.get(split, ())) + 1}_a_1.nii.gz"
        depth, height, width = case["volume"].shape
        dz, dy, dx = case["spacing"]
        # The first voxel of the file is the last of the phantom in x and y; DICOM coordinates grow to left and back.
        first = case["affine"] @ [width - 1, height - 1, 0, 1]
        metadata = dict.fromkeys(METADATA, "")
        metadata.update(
            VolumeName=volume,
            Manufacturer="Phantom",
            PatientSex="MF"[i % 2],
            PatientAge=f"{30 + i % 50:03d}Y",
            PatientPosition="HFS",
            ImagePositionPatient=str([float(-first[0]), float(-first[1]), float(first[2])]),
            ImageOrientationPatient="[1, 0, 0, 0, 1, 0]",
            Rows=str(height),
            Columns=str(width),
            XYSpacing=str([float(dy), float(dx)]),
            RescaleIntercept=str(INTERCEPTS[i % 2]),
            RescaleSlope="1",
            NumberofSlices=str(depth),
            ZSpacing=str(float(dz)),
        )
        report = dict.fromkeys(REPORTS, "Not given.")
        report.update(VolumeName=volume, Findings_EN=case["report"]["findings"])
        report.update(Impressions_EN=re.sub(r"^\s*$", "Not given.", case["report"].get("impression") or ""))
        labels = {name: "" if value is None else str(value) for name, value in case["labels"].items()}
        rows.setdefault(split, []).append((report, metadata, dict(VolumeName=volume, **labels)))
        indexed.append((metadata, i))
    for split, of_split in rows.items():
        for (folder, pattern), table in zip(TABLES.items(), zip(*of_split)):
            path = data / folder / pattern.format(long=LONG[split], short=split)
            with atomic_write(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(table[0]))
                writer.writeheader()
                writer.writerows(table)
    return indexed
