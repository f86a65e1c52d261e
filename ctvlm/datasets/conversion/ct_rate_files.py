"""CT-RATE's names, tables and geometry: pure functions over its files.

A volume is ``<train|valid>_<patient>_<scan letter>_<reconstruction>.nii.gz``. In the first release (v1, ``train/``,
``valid/``) a file holds stored values under a blank header, and all else is in the metadata CSV; in the second (v2,
``train_fixed/``, ``valid_fixed/``) it is in HU with a right affine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.datasets.conversion.case_list import ConversionError, DropCase
from ctvlm.datasets.conversion.tables import find_conflicting_keys, read_csv
from ctvlm.volume import CTReadError

NAME = re.compile(r"(?<![a-z0-9])(train|valid)_(\d+)(?:_([a-z]+)(?:_(\d+))?)?(?![a-z0-9])", re.IGNORECASE)
NAN_AFFINE = "its affine is NaN"
NARROW = "only 24 to 123 voxels wide at 0.5 mm"
# Volumes that are broken in the published data.
KNOWN_BAD = {
    "train_1267_a_4": NAN_AFFINE,
    **{f"train_11755_a_{number}": NAN_AFFINE for number in (2, 3, 4)},
    "train_3821_a_5": NARROW,
    **{f"train_9792_a_{number}": NARROW for number in (1, 2, 3, 4)},
}
FOLDERS = ("", "metadata", "radiology_text_reports", "multi_abnormality_labels")
GEOMETRY = ("XYSpacing", "ZSpacing", "RescaleSlope", "RescaleIntercept")


@dataclass(frozen=True)
class Name:
    """A name of CT-RATE, of a volume, or of a scan (no ``reconstruction``)."""

    split: str
    patient: int
    letter: str
    reconstruction: int | None

    @property
    def patient_id(self) -> str:
        return f"{self.split}_{self.patient}"

    @property
    def scan(self) -> str:
        return f"{self.patient_id}_{self.letter}"

    @property
    def volume(self) -> str:
        return self.scan if self.reconstruction is None else f"{self.scan}_{self.reconstruction}"


def parse_name(text: str) -> Name | None:
    """The most complete name in a file name or path; folders may contradict it (``dataset/train/valid_1_a_1``)."""
    names = [m for m in NAME.finditer(str(text).replace("\\", "/").rsplit("/", 1)[-1]) if m[3]]
    if not names:
        return None
    best = max(names, key=lambda m: bool(m[4]))
    return Name(best[1].lower(), int(best[2]), best[3].lower(), int(best[4]) if best[4] else None)


def find_tables(root: Path, *patterns: str) -> list[Path]:
    """Files at the places where CT-RATE keeps its tables, under ``root`` or ``root/dataset``."""
    places = [base / folder for base in (root, root / "dataset") for folder in FOLDERS]
    return sorted({p for place in places if place.is_dir() for pattern in patterns for p in place.glob(pattern)})


def rows_by_name(
    paths: list[Path], needs: Iterable[str] = (), compare: Iterable[str] | None = None
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Rows under every name they carry, of a volume (``VolumeName``, ``VolumeToAnnotate``) and of its scan; remarks.

    Reconstructions of a scan share report and labels, so that a row of one of them serves the others; the first row of
    a scan is the one that serves. The remarks name volumes that have several rows with different contents.

    Args:
        needs: columns that each table must have.
        compare: columns in which rows of one volume must agree; default: all but the names.
    """
    rows: dict[str, dict[str, str]] = {}
    all_rows: list[dict[str, str]] = []
    notes: list[str] = []
    for path in paths:
        table = read_csv(path, ("VolumeName", *needs))
        notes += table.notes
        for row in table.rows:
            names = [parse_name(row.get(key) or "") for key in ("VolumeName", "VolumeToAnnotate")]
            for name in filter(None, names):
                rows.setdefault(name.volume, row)
                rows.setdefault(name.scan, row)
            if name := parse_name(row["VolumeName"]):
                all_rows.append({**row, "VolumeName": name.volume})
    columns = compare or {c for row in all_rows[:1] for c in row if not c.startswith("Volume")}
    if twice := find_conflicting_keys(all_rows, "VolumeName", columns):
        listed = ", ".join(twice[:5]) + (f" and {len(twice) - 5} more" if len(twice) > 5 else "")
        where = ", ".join(path.name for path in paths)
        notes.append(f"{where}: {len(twice)} volumes have two rows that differ; the first one is used: {listed}")
    return rows, notes


def read_names(paths: list[Path]) -> set[str]:
    """Volumes and scans in lists such as ``no_chest_train.txt``."""
    words = [word for path in paths for word in path.read_text(encoding="utf-8").split()]
    return {name.volume for name in map(parse_name, words) if name}


def _numbers(text: str | None, count: int) -> list[float] | None:
    """``"[0.34, 0.34]"``, or one number where ``count`` is 1."""
    try:
        values = json.loads(text or "null")
        values = values if isinstance(values, list) else [values]
        values = [float(v) for v in values]
    except (ValueError, TypeError):
        return None
    return values if len(values) == count and all(np.isfinite(values)) else None


def spacing_of(row: dict[str, str]) -> tuple[float, float, float] | None:
    """Voxel size (z, y, x) in mm; None where the row does not say."""
    xy = _numbers(row.get("XYSpacing"), 2) or (_numbers(row.get("XYSpacing"), 1) or []) * 2
    z = _numbers(row.get("ZSpacing"), 1)
    return (abs(z[0]), xy[1], xy[0]) if z and len(xy) == 2 else None


def v1_volume(path: Path, row: dict[str, str] | None) -> dict:
    """A v1 file's ``volume`` of the manifest: rescale and affine from its metadata row.

    The geometry is DICOM's: the array's first axis runs along the row direction cosine, the second along the column's,
    the third along their cross product, from ``ImagePositionPatient``.

    Raises:
        DropCase: no row, or one that does not hold slope, intercept and spacing.
    """
    if row is None:
        raise DropCase("no row in the metadata: a v1 file says neither its HU nor its spacing")
    spacing = spacing_of(row)
    slope, intercept = _numbers(row.get("RescaleSlope"), 1), _numbers(row.get("RescaleIntercept"), 1)
    if spacing is None or slope is None or intercept is None:
        found = {key: row.get(key) for key in GEOMETRY}
        raise DropCase(f"its metadata row holds {found}; all four are needed for a v1 file")
    cosines = np.array(_numbers(row.get("ImageOrientationPatient"), 6) or [1, 0, 0, 0, 1, 0]).reshape(2, 3)
    axes = np.stack([*cosines, np.cross(*cosines)], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing[::-1])
    affine[:3, 3] = _numbers(row.get("ImagePositionPatient"), 3) or [0, 0, 0]
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return dict(path=str(path), rescale=[slope[0], intercept[0]], affine=(to_ras @ affine).tolist())


def check_release(path: str, release: str, spacing: tuple[float, float, float] | None) -> list[str]:
    """Does the header fit the release? v1 headers are blank (voxels of 1 mm), v2 headers carry the true spacing.

    Args:
        spacing: (z, y, x) mm of the metadata; None where there is no row.

    Returns:
        Remarks.

    Raises:
        CTReadError: the file belongs to the other release.
    """
    try:
        affine = nib.load(path).affine
    except Exception as error:
        # nibabel throws many kinds on a broken file; what is wrong is the same.
        raise CTReadError(path, f"no NIfTI header ({error})", "a NIfTI file", "fetch it again") from error
    sizes = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    true = None if spacing is None else np.array(spacing)
    if true is None or np.allclose(true, 1.0, rtol=0.02):
        return []  # nothing to tell a blank header from
    blank, right = np.allclose(sizes, 1.0, rtol=1e-3), np.allclose(sizes, true, rtol=0.02)
    if release == "v1" and right:
        found = f"a header with the true voxel size {np.round(sizes, 3).tolist()} mm (z, y, x)"
        do = "this is a v2 (_fixed) file: slope and intercept would corrupt its HU; convert with --release v2"
        raise CTReadError(path, found, "the blank header of CT-RATE v1", do)
    if release == "v2" and blank:
        found = f"a blank header, where the metadata say {np.round(true, 3).tolist()} mm (z, y, x)"
        do = "this is a v1 file; convert with --release v1, which applies the metadata"
        raise CTReadError(path, found, "the affine of CT-RATE v2", do)
    if release == "v2" and not right:
        return [
            f"voxel size {np.round(sizes, 3).tolist()} mm in the file, {np.round(true, 3).tolist()} in the metadata"
        ]
    return []


def find_volumes(root: Path, release: str) -> tuple[dict[str, Path], str, list[str]]:
    """Files by volume name, the release that they belong to, and remarks.

    Args:
        release: "v1", "v2", or "auto": v2 where its tree is there.

    Raises:
        ConversionError: no tree of that release.
    """
    trees = {"v1": ("train", "valid"), "v2": ("train_fixed", "valid_fixed")}
    bases = [base for base in (root / "dataset", root) if base.is_dir()]
    there = {r: [b / f for b in bases for f in folders if (b / f).is_dir()] for r, folders in trees.items()}
    chosen = release if release != "auto" else "v2" if there["v2"] else "v1"
    volumes: dict[str, Path] = {}
    for tree in there[chosen]:
        for path in tree.rglob("*"):
            name = parse_name(path.name) if path.name.lower().endswith(".nii.gz") else None
            if name and name.reconstruction is not None:
                volumes.setdefault(name.volume, path)
    if not volumes:
        other = [f.name for r, folders in there.items() if r != chosen for f in folders]
        hint = f"; of the other release there are {', '.join(other)}: check --release" if other else ""
        raise ConversionError(
            f"{root}: no volume of CT-RATE {chosen} found; expected files such as "
            f"dataset/{trees[chosen][1]}/valid_1/valid_1_a/valid_1_a_1.nii.gz under it{hint}"
        )
    both = all(there.values()) and release == "auto"
    return volumes, chosen, ["both releases are there; the fixed one (v2) is taken"] if both else []
