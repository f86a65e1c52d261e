"""Conversion of the Merlin abdominal CT data set: volumes, reports, labels.

Layout, as published by its authors: ``merlin_data/<study id>.nii.gz``, ``reports_final.xlsx`` with the columns
``study id``, ``Findings`` and ``Split``, and ``zero_shot_findings_disease_cls.csv`` with one column per finding
(1 present, 0 negated, -1 not mentioned). The column ``Findings`` contains the impression, too.

Assumptions: the tables have no patient ids, so each study is a patient of its own, and the published split is kept.
"""

from __future__ import annotations

import re
from pathlib import Path

from ctvlm.anatomy import DEFAULT_SCHEME, mention_lexicon
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError
from ctvlm.datasets.conversion.tables import find_conflicting_keys, label_columns, read_csv, read_table
from ctvlm.datasets.conversion.text import clean, text_steps
from ctvlm.utils import natural_key

ID, FINDINGS, SPLIT = "study id", "Findings", "Split"
REPORTS = ("reports_final*.xlsx", "reports_final*.csv")
LABEL_TABLE = "zero_shot_findings_disease_cls*.csv"
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LABELS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": None, "-1.0": None, "": None}
# A heading has a colon, or is a word in capitals that starts a line. "the impression of a cyst" is not a heading.
IMPRESSION = re.compile(r"\b(?i:impressions?|conclusions?)\s*:|^[ \t]*(?:IMPRESSIONS?|CONCLUSIONS?)\b\s*", re.MULTILINE)
FINDINGS_HEADING = re.compile(r"^\s*(?i:findings?)\s*:")


def split_findings(text: str) -> dict[str, str]:
    """Split the column ``Findings`` at its first impression heading into ``findings`` and ``impression``.

    A part without text is missing. Without a heading the whole text is ``findings``.
    """
    mark = IMPRESSION.search(text)
    findings = text[: mark.start()] if mark else text
    impression = IMPRESSION.sub(" ", text[mark.end() :]) if mark else ""
    parts = dict(findings=clean(FINDINGS_HEADING.sub("", findings)), impression=clean(impression))
    return {name: part for name, part in parts.items() if part}


def merlin_cases(root: Path, scheme: str = DEFAULT_SCHEME) -> CaseList:
    """List every volume that has a report. A note counts the reports without an impression heading.

    Raises:
        ConversionError: no table, no volume, or no row that matches a volume.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: not a folder; expected the root of Merlin, which contains merlin_data/")
    tables = [path for pattern in REPORTS for path in sorted(root.rglob(pattern))]
    files = {path.name[: path.name.lower().index(".nii")]: path for path in sorted(root.rglob("*")) if _is_nifti(path)}
    if not tables or not files:
        raise ConversionError(
            f"{root}: found {len(files)} NIfTI volumes and {len(tables)} tables of reports; expected "
            "merlin_data/<study id>.nii.gz and reports_final.xlsx"
        )
    table = read_table(tables[0], (ID, FINDINGS, SPLIT))
    notes = [*table.notes, f"reports: {tables[0].name}", "patients are not published: every study counts as a patient"]
    if conflicts := find_conflicting_keys(table.rows, ID, (FINDINGS, SPLIT)):
        notes.append(f"{tables[0].name}: {len(conflicts)} studies have different rows, such as {conflicts[0]}; the "
                     "first one is used")  # fmt: skip
    labels, remarks = _labels(root)
    listed, lexicon = CaseList(notes=[*notes, *remarks]), mention_lexicon(scheme)
    rows: dict[str, dict[str, str]] = {}
    for row in table.rows:
        rows.setdefault(_study(row[ID]), row)
    unsplit: list[str] = []
    for study in sorted(files, key=natural_key):
        if study not in rows:
            listed.dropped.append((study, f"no row in {tables[0].name}"))
            continue
        row, report = rows[study], split_findings(rows[study][FINDINGS])
        split = SPLITS.get(row[SPLIT].strip().lower())
        if split is None or not report:
            reason = "no report" if split else f"split {row[SPLIT]!r}; expected train, val or test"
            listed.dropped.append((study, reason))
            continue
        if "impression" not in report:
            unsplit.append(study)
        listed.cases.append(
            dict(
                case_id=study,
                patient_id=study,
                split=split,
                volume=dict(path=str(files[study])),
                report=report,
                cot=text_steps(report.get("findings", ""), lexicon),
                labels=labels.get(study, {}),
                source="Merlin",
            )
        )
    if not set(files) & set(rows):
        raise ConversionError(
            f"{root}: none of the {len(rows)} rows of {tables[0].name} matches one of the {len(files)} volumes; rows "
            f"have names such as {next(iter(rows))!r}, volumes {next(iter(files))!r}"
        )
    if unsplit:
        share = 1 - len(unsplit) / len(listed.cases)
        listed.notes.append(
            f"{len(listed.cases) - len(unsplit)} of {len(listed.cases)} reports ({share:.1%}) were split at an "
            f"impression heading; findings only: {', '.join(unsplit[:5])}" + ", ..." * (len(unsplit) > 5)
        )
    if missing := len(set(rows) - set(files)):
        listed.notes.append(f"{missing} rows without a volume on disk")
    return listed


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _study(value: str) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", value.strip(), flags=re.IGNORECASE)


def _labels(root: Path) -> tuple[dict[str, dict[str, int | None]], list[str]]:
    """Labels by study, with blanks in the names of the findings, and remarks."""
    paths = sorted(root.rglob(LABEL_TABLE))
    if not paths:
        return {}, [f"{root}: found no labels ({LABEL_TABLE})"]
    table = read_csv(paths[0], (ID,))
    columns, remark = label_columns(table.rows, LABELS, (ID,))
    labels: dict[str, dict[str, int | None]] = {}
    for row in table.rows:
        found = {column.replace("_", " "): LABELS[row[column].strip()] for column in columns}
        labels.setdefault(_study(row[ID]), found)
    return labels, [*table.notes, *([f"{paths[0].name}: {remark}"] if remark else [])]
