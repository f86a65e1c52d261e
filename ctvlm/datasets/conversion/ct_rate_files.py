"""File names, tables and geometry of CT-RATE.

A volume is ``<train|valid>_<patient>_<scan letter>_<reconstruction>.nii.gz``. Files of the first release (v1,
``train/``, ``valid/``) contain stored values and a blank header; rescale and geometry are in the metadata CSV. Files
of the second release (v2, ``train_fixed/``, ``valid_fixed/``) contain HU and a correct affine.
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
# Volumes that are corrupt in the published data.
KNOWN_BAD = {
    "train_1267_a_4": NAN_AFFINE,
    **{f"train_11755_a_{number}": NAN_AFFINE for number in (2, 3, 4)},
    "train_3821_a_5": NARROW,
    **{f"train_9792_a_{number}": NARROW for number in (1, 2, 3, 4)},
}
FOLDERS = ("", "metadata", "radiology_text_reports", "multi_abnormality_labels")
GEOMETRY = ("XYSpacing", "ZSpacing", "RescaleSlope", "RescaleIntercept")


@dataclass(frozen=True)
class CTRateName:
    """Name of a CT-RATE volume, or of a scan (without ``reconstruction``)."""

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


def parse_name(text: str) -> CTRateName | None:
    """Parse the most complete name in a file name or path. Folder names are ignored, because they may differ."""
    names = [m for m in NAME.finditer(str(text).replace("\\", "/").rsplit("/", 1)[-1]) if m[3]]
    if not names:
        return None
    best = max(names, key=lambda m: bool(m[4]))
    return CTRateName(best[1].lower(), int(best[2]), best[3].lower(), int(best[4]) if best[4] else None)


def ct_rate_name(text: str) -> CTRateName:
    """Parse a name that must be valid.

    Raises:
        ValueError: not a name of CT-RATE.
    """
    name = parse_name(text)
    if name is None:
        raise ValueError(f"found {text!r}; expected a name such as train_1_a_1")
    return name


def find_tables(root: Path, *patterns: str) -> list[Path]:
    """Find tables in the usual folders of CT-RATE, under ``root`` or ``root/dataset``."""
    folders = [base / folder for base in (root, root / "dataset") for folder in FOLDERS]
    return sorted({p for folder in folders if folder.is_dir() for pattern in patterns for p in folder.glob(pattern)})


def rows_by_name(
    paths: list[Path], needs: Iterable[str] = (), compare: Iterable[str] | None = None
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Map names of volumes (``VolumeName``, ``VolumeToAnnotate``) and of their scans to rows.

    The reconstructions of a scan share report and labels, so the first row of a scan applies to all of them.

    Args:
        needs: columns that each table must have.
        compare: columns in which the rows of a volume must agree; default: all except the names.

    Returns:
        The rows and remarks, such as volumes that have several different rows.
    """
    rows: dict[str, dict[str, str]] = {}
    all_rows: list[dict[str, str]] = []
    notes: list[str] = []
    for path in paths:
        table = read_csv(path, ("VolumeName", *needs))
        notes += table.notes
        for row in table.rows:
            for key in ("VolumeName", "VolumeToAnnotate"):
                if name := parse_name(row.get(key) or ""):
                    rows.setdefault(name.volume, row)
                    rows.setdefault(name.scan, row)
            if name := parse_name(row["VolumeName"]):
                all_rows.append({**row, "VolumeName": name.volume})
    columns = compare or {c for row in all_rows[:1] for c in row if not c.startswith("Volume")}
    if conflicts := find_conflicting_keys(all_rows, "VolumeName", columns):
        listed = ", ".join(conflicts[:5]) + (f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else "")
        where = ", ".join(path.name for path in paths)
        notes.append(f"{where}: {len(conflicts)} volumes have different rows, the first one is used: {listed}")
    return rows, notes


def read_names(paths: list[Path]) -> set[str]:
    """Read the volumes and scans of lists such as ``no_chest_train.txt``."""
    words = [word for path in paths for word in path.read_text(encoding="utf-8").split()]
    return {name.volume for name in map(parse_name, words) if name}


def _numbers(text: str | None, count: int) -> list[float] | None:
    """Parse ``"[0.34, 0.34]"``, or a single number if ``count`` is 1. Returns None for other text."""
    try:
        values = json.loads(text or "null")
        values = values if isinstance(values, list) else [values]
        values = [float(v) for v in values]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return values if len(values) == count and all(np.isfinite(values)) else None


def spacing_of(row: dict[str, str]) -> tuple[float, float, float] | None:
    """Return the voxel size (z, y, x) in mm, or None if it is missing."""
    xy = _numbers(row.get("XYSpacing"), 2) or (_numbers(row.get("XYSpacing"), 1) or []) * 2
    z = _numbers(row.get("ZSpacing"), 1)
    return (abs(z[0]), xy[1], xy[0]) if z and len(xy) == 2 else None


def v1_volume(path: Path, row: dict[str, str] | None) -> dict:
    """Build the ``volume`` entry of a v1 file, with rescale and affine from its metadata row.

    The geometry follows DICOM: the first array axis follows the row direction cosine, the second the column direction
    cosine, the third their cross product; the origin is ``ImagePositionPatient``.

    Raises:
        DropCase: no row, or slope, intercept or spacing is missing.
    """
    if row is None:
        raise DropCase("no row in the metadata, which a v1 file needs for HU and spacing")
    spacing = spacing_of(row)
    slope, intercept = _numbers(row.get("RescaleSlope"), 1), _numbers(row.get("RescaleIntercept"), 1)
    if spacing is None or slope is None or intercept is None:
        values = {key: row.get(key) for key in GEOMETRY}
        raise DropCase(f"metadata row: found {values}; a v1 file needs all four values")
    cosines = np.array(_numbers(row.get("ImageOrientationPatient"), 6) or [1, 0, 0, 0, 1, 0]).reshape(2, 3)
    axes = np.stack([*cosines, np.cross(*cosines)], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing[::-1])
    affine[:3, 3] = _numbers(row.get("ImagePositionPatient"), 3) or [0, 0, 0]
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return dict(path=str(path), rescale=[slope[0], intercept[0]], affine=(to_ras @ affine).tolist())


def check_release(path: str, release: str, spacing: tuple[float, float, float] | None) -> list[str]:
    """Check that a header matches the release: v1 headers are blank (1 mm voxels), v2 headers have the true spacing.

    Args:
        spacing: (z, y, x) in mm from the metadata; None if there is no row.

    Returns:
        Remarks.

    Raises:
        CTReadError: not NIfTI, or a file of the other release.
    """
    try:
        affine = nib.load(path).affine  # type: ignore[attr-defined]
    except Exception as error:
        # nibabel raises many types of exceptions for corrupt files.
        raise CTReadError(path, f"no NIfTI header ({error})", "a NIfTI file", "download it again") from error
    sizes = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    true = None if spacing is None else np.array(spacing)
    if true is None or np.allclose(true, 1.0, rtol=0.02):
        return []  # a blank header cannot be distinguished
    is_blank, is_true = np.allclose(sizes, 1.0, rtol=1e-3), np.allclose(sizes, true, rtol=0.02)
    if release == "v1" and is_true:
        found = f"a header with the true voxel size {np.round(sizes, 3).tolist()} mm (z, y, x)"
        action = "this is a v2 (_fixed) file, for which rescaling is wrong; convert with --release v2"
        raise CTReadError(path, found, "the blank header of CT-RATE v1", action)
    if release == "v2" and is_blank:
        found = f"a blank header, but {np.round(true, 3).tolist()} mm (z, y, x) in the metadata"
        action = "this is a v1 file; convert with --release v1, which applies the metadata"
        raise CTReadError(path, found, "the affine of CT-RATE v2", action)
    if release == "v2" and not is_true:
        return [
            f"voxel size {np.round(sizes, 3).tolist()} mm in the file, {np.round(true, 3).tolist()} in the metadata"
        ]
    return []


def find_volumes(root: Path, release: str) -> tuple[dict[str, Path], str, list[str]]:
    """Find the files by volume name.

    Args:
        release: "v1", "v2", or "auto" (v2 if present).

    Returns:
        Paths by name, the release, and remarks.

    Raises:
        ConversionError: no volume of the release.
    """
    trees = {"v1": ("train", "valid"), "v2": ("train_fixed", "valid_fixed")}
    bases = [base for base in (root / "dataset", root) if base.is_dir()]
    present = {r: [b / f for b in bases for f in folders if (b / f).is_dir()] for r, folders in trees.items()}
    chosen = release if release != "auto" else "v2" if present["v2"] else "v1"
    volumes: dict[str, Path] = {}
    for tree in present[chosen]:
        for path in tree.rglob("*"):
            name = parse_name(path.name) if path.name.lower().endswith(".nii.gz") else None
            if name and name.reconstruction is not None:
                volumes.setdefault(name.volume, path)
    if not volumes:
        other = [f.name for r, folders in present.items() if r != chosen for f in folders]
        hint = f"; found folders of the other release: {', '.join(other)}; check --release" if other else ""
        raise ConversionError(
            f"{root}: found no volume of CT-RATE {chosen}; expected files such as "
            f"dataset/{trees[chosen][1]}/valid_1/valid_1_a/valid_1_a_1.nii.gz{hint}"
        )
    both = all(present.values()) and release == "auto"
    return volumes, chosen, ["found both releases; using v2 (_fixed)"] if both else []
