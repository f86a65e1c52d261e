"""Conversion of INSPECT: CT pulmonary angiograms with the impression of the report, labels and splits.

Layout: ``CTPA/<image_id>.nii.gz`` and tables that share ``impression_id``: ``study_mapping_*.tsv`` (``image_id``,
``person_id``), ``impressions_*.tsv`` or ``Final_Impressions.*`` (``impressions``), ``splits_*.tsv`` (``split``: train,
valid or test) and ``labels_*.tsv`` (pulmonary embolism and outcomes; "Censored" is unknown). The reports have no
findings, so the steps come from the impression. About 20 of the published files have four axes or a broken orientation.
"""

from __future__ import annotations

from pathlib import Path

from ctvlm.anatomy import DEFAULT_SCHEME, mention_lexicon
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError
from ctvlm.datasets.conversion.tables import find_conflicting_keys, label_columns, read_table
from ctvlm.datasets.conversion.text import clean, text_steps
from ctvlm.utils import natural_key
from ctvlm.volume import check_nifti_header

ID, IMAGE, PATIENT, TEXT, SPLIT = "impression_id", "image_id", "person_id", "impressions", "split"
# Name patterns and required columns of a table.
Source = tuple[tuple[str, ...], tuple[str, ...]]
MAPPING: Source = (("study_mapping*",), (ID, IMAGE, PATIENT))
IMPRESSIONS: Source = (("impressions*", "Final_Impressions*"), (ID, TEXT))
SPLIT_TABLE: Source = (("splits*",), (ID, SPLIT))
LABEL_TABLE: Source = (("labels*",), (ID,))
SUFFIXES = (".tsv", ".csv", ".xlsx")
SPLITS = {"train": "train", "valid": "val", "val": "val", "test": "test"}
LABELS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "censored": None, "": None}
Rows = dict[str, dict[str, str]]


def inspect_cases(root: Path, scheme: str = DEFAULT_SCHEME) -> CaseList:
    """List every volume with an impression and a split.

    Raises:
        ConversionError: a table is missing, no volume, or no row that matches a volume.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: not a folder; expected the root of INSPECT, which contains CTPA/")
    files = {p.name[: p.name.lower().index(".nii")]: p for p in sorted(root.rglob("*")) if _is_nifti(p)}
    if not files:
        raise ConversionError(f"{root}: found no NIfTI volume; expected files such as CTPA/<image_id>.nii.gz")
    listed, lexicon = CaseList(), mention_lexicon(scheme)
    mapping, impressions, splits = (_rows(root, table, listed) for table in (MAPPING, IMPRESSIONS, SPLIT_TABLE))
    labels = _labels(root, listed)
    study_of: dict[str, dict[str, str]] = {}
    for row in mapping.values():
        study_of.setdefault(_stem(row[IMAGE]), row)
    if not set(files) & set(study_of):
        raise ConversionError(
            f"{root}: none of the {len(study_of)} rows of the study mapping matches one of the {len(files)} volumes; "
            f"rows have names such as {next(iter(study_of))!r}, volumes {next(iter(files))!r}"
        )
    for image in sorted(files, key=natural_key):
        key = study_of.get(image, {}).get(ID, "").strip()
        split = SPLITS.get(splits.get(key, {}).get(SPLIT, "").strip().lower())
        impression = clean(impressions.get(key, {}).get(TEXT))
        if not key or split is None or not impression:
            reason = "no impression" if key and split else "no split" if key else "no row in the study mapping"
            listed.dropped.append((image, reason))
            continue
        listed.cases.append(
            dict(
                case_id=image,
                patient_id=study_of[image][PATIENT].strip() or image,
                split=split,
                volume=dict(path=str(files[image])),
                report=dict(impression=impression),
                cot=text_steps(impression, lexicon),
                labels=labels.get(key, {}),
                source="INSPECT",
                extra=dict(impression_id=key),
            )
        )
    if missing := len(set(study_of) - set(files)):
        listed.notes.append(f"{missing} studies without a volume on disk")
    return listed


def prepare_inspect(case: dict) -> dict:
    """Raise an error for a file with four axes or a broken orientation. Runs in a worker."""
    check_nifti_header(case["volume"]["path"])
    return case


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _stem(name: str) -> str:
    return name.strip().removesuffix(".gz").removesuffix(".nii")


def _table(root: Path, patterns: tuple[str, ...]) -> Path | None:
    """The table of a pattern; the newest, if there are several with a date in their names."""
    found = [p for pattern in patterns for p in sorted(root.rglob(pattern)) if p.suffix.lower() in SUFFIXES]
    return max(found, key=lambda path: path.name) if found else None


def _rows(root: Path, source: Source, listed: CaseList) -> Rows:
    """Rows of a table by impression id; the first one, if several rows of an id differ (noted)."""
    patterns, needs = source
    path = _table(root, patterns)
    if path is None:
        raise ConversionError(f"{root}: found no table {' or '.join(patterns)}; expected .tsv, .csv or .xlsx")
    table = read_table(path, needs)
    listed.notes += [*table.notes, f"read {path.name}: {len(table.rows)} rows"]
    if conflicts := find_conflicting_keys(table.rows, ID, needs):
        listed.notes.append(f"{path.name}: {len(conflicts)} ids have different rows, such as {conflicts[0]}; the first "
                            "one is used")  # fmt: skip
    rows: Rows = {}
    for row in table.rows:
        rows.setdefault(row[ID].strip(), row)
    return rows


def _labels(root: Path, listed: CaseList) -> dict[str, dict[str, int | None]]:
    """Labels by impression id, with blanks in their names; empty if there is no table."""
    if _table(root, LABEL_TABLE[0]) is None:
        listed.notes.append(f"{root}: found no labels (labels_*.tsv)")
        return {}
    rows = _rows(root, LABEL_TABLE, listed)
    columns, remark = label_columns(list(rows.values()), LABELS, (ID, IMAGE, PATIENT, SPLIT))
    listed.notes += [remark] if remark else []
    return {
        key: {column.replace("_", " "): LABELS[row[column].strip().lower()] for column in columns}
        for key, row in rows.items()
    }
