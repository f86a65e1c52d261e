"""Join of a table of reports and the cases of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctvlm.datasets.conversion.case_list import CaseList, ConversionError
from ctvlm.datasets.conversion.folder import SUFFIXES
from ctvlm.datasets.conversion.journal import files_of
from ctvlm.datasets.conversion.tables import read_csv
from ctvlm.datasets.conversion.text import clean, split_report

FINDINGS = ("finding", "befund")
IMPRESSION = ("impression", "conclusion", "beurteilung")
REPORT = ("report", "text")


@dataclass(frozen=True)
class ReportColumns:
    """Column names; None means automatic detection. ``findings`` may contain whole reports with headings."""

    id: str | None = None
    findings: str | None = None
    impression: str | None = None


def add_reports(listed: CaseList, path: Path, columns: ReportColumns, allow_neither: bool = False) -> CaseList:
    """Add the ``report`` of the matching row to each case. A note lists the columns used and rows without a CT.

    The id of a row can be the case id, the path or file name of the CT, the end of either, or the patient id (then all
    cases of the patient share the report). Suffix, letter case and surrounding blanks are ignored.

    Args:
        allow_neither: keep cases with neither mask nor report.

    Raises:
        ConversionError: unknown column, no row matches a case, or rows with different texts for one case.
    """
    table = read_csv(path)
    rows = table.rows
    names = [name for name in rows[0] if name]
    for given in (columns.id, columns.findings, columns.impression):
        if given and given not in names:
            raise ConversionError(f"{path}: found columns {', '.join(names)}; expected a column {given!r}")
    keys = _keys_of(listed.cases)
    id_column = columns.id or max(names, key=lambda name: len(_matched_cases(rows, name, keys)))
    if listed.cases and not _matched_cases(rows, id_column, keys):
        examples = ", ".join(repr(row[id_column]) for row in rows[:3])
        cases = ", ".join(repr(case["case_id"]) for case in listed.cases[:3])
        which = f"column {columns.id!r}" if columns.id else "any column"
        raise ConversionError(
            f"{path}: no CT matches {which}; found {examples} in {id_column!r}, "
            f"expected names such as {cases}; set --id-column, or rename the CTs"
        )
    findings, impression = _text_columns(rows, names, id_column, columns, path)
    texts: dict[str, tuple[int, dict[str, str]]] = {}
    unmatched = []
    for number, row in zip(table.row_numbers, rows):
        report = _report(row, findings, impression)
        case_ids = _match(row[id_column], keys)
        if not case_ids:
            unmatched.append(row[id_column])
        for case_id in case_ids if report else ():
            before = texts.setdefault(case_id, (number, report))
            if before[1] != report:
                raise ConversionError(
                    f"{path}: rows {before[0]} and {number} have different reports for case {case_id!r}; remove one "
                    "of them, or set --id-column to a unique column"
                )
    kept, dropped = [], list(listed.dropped)
    for case in listed.cases:
        report = texts.get(case["case_id"], (0, {}))[1]
        if report or case["region_map"] or case["lesion_masks"] or allow_neither:
            kept.append({**case, "report": report})
        else:
            dropped.append((case["case_id"], f"neither a mask nor a report in {path.name}; --allow-no-mask keeps it"))
    note = f"{path.name}: {len(texts)} of {len(listed.cases)} CTs have a report; id column {id_column!r}"
    note += f", findings {findings!r}" if findings else ""
    note += f", impression {impression!r}" if impression else ""
    if unmatched:
        note += f"; rows without a CT: {len(unmatched)}, such as {unmatched[0]!r}"
    return CaseList(kept, dropped, [*listed.notes, *table.notes, note])


def _tails(name: str | None) -> list[str]:
    """List the endings of a path, lower case and without suffix: "a/p1/ct.nii.gz" → "a/p1/ct", "p1/ct", "ct"."""
    name = (name or "").strip().lower().replace("\\", "/")
    stem = next((name[: -len(s)] for s in SUFFIXES if name.endswith(s)), name)
    parts = [part for part in stem.split("/") if part not in ("", ".")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _keys_of(cases: list[dict]) -> dict[str, tuple[str, ...]]:
    """Map the possible names of a row to case ids. Names that several CTs share are excluded."""
    ids_by_name: dict[str, set[str]] = {}
    by_patient: dict[str, list[str]] = {}
    for case in cases:
        for name in {*_tails(case["case_id"]), *_tails(files_of(case)[0])}:
            ids_by_name.setdefault(name, set()).add(case["case_id"])
        for name in _tails(case["patient_id"])[:1]:
            by_patient.setdefault(name, []).append(case["case_id"])
    keys = {name: tuple(ids) for name, ids in ids_by_name.items() if len(ids) == 1}
    return {**{name: tuple(ids) for name, ids in by_patient.items()}, **keys}


def _match(value: str | None, keys: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the ids of the cases that match a value of the id column."""
    return next((keys[tail] for tail in _tails(value) if tail in keys), ())


def _matched_cases(rows: list[dict[str, str]], column: str, keys: dict[str, tuple[str, ...]]) -> set[str]:
    return {case_id for row in rows for case_id in _match(row[column], keys)}


def _text_columns(
    rows: list[dict[str, str]], names: list[str], id_column: str, columns: ReportColumns, path: Path
) -> tuple[str | None, str | None]:
    """Return the columns of findings and impression: as given, else by name, else the one with the longest texts."""

    def find_column(words: tuple[str, ...]) -> str | None:
        free = (name for name in names if name not in (id_column, columns.findings, columns.impression))
        return next((name for name in free if any(word in name.lower() for word in words)), None)

    impression = columns.impression or find_column(IMPRESSION)
    findings = columns.findings or find_column(FINDINGS)
    if findings is None and impression is None:
        findings = find_column(REPORT)
    if findings is None and impression is None:
        length = {name: sum(len(row[name] or "") for row in rows) / len(rows) for name in names if name != id_column}
        findings = max(length, key=lambda name: length[name], default=None)
        if findings is None or length[findings] < 20:
            raise ConversionError(
                f"{path}: found columns {', '.join(names)}; expected one with report text; set --findings-column"
            )
    return findings, impression


def _report(row: dict[str, str], findings: str | None, impression: str | None) -> dict[str, str]:
    """Read findings and impression of a row. Without an impression column, a report with headings is split."""
    text = row[findings] if findings else ""
    if impression is None and (parts := split_report(text or "")):
        return parts
    report = {"findings": clean(text), "impression": clean(row[impression]) if impression else ""}
    return {name: part for name, part in report.items() if part}
