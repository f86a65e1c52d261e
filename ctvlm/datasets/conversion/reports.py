"""A table of reports joined to cases: which column names the CT, which holds the text."""

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
WHOLE = ("report", "text")


@dataclass(frozen=True)
class ReportColumns:
    """Column names; None is guessed. ``findings`` may hold whole reports with headings."""

    id: str | None = None
    findings: str | None = None
    impression: str | None = None


def add_reports(found: CaseList, path: Path, columns: ReportColumns, allow_neither: bool = False) -> CaseList:
    """Give each case the ``report`` of its row; a note says which columns were read and what had no partner.

    A row's id may be the case's id, the CT's path or file name, the end of either, or the patient's id (then all cases
    of the patient share the report). Suffixes, upper case and surrounding blanks do not count.

    Args:
        allow_neither: keep a case with neither mask nor report.

    Raises:
        ConversionError: no such column, no row that names a case, or rows with different texts for one case.
    """
    table = read_csv(path)
    rows = table.rows
    names = [name for name in rows[0] if name]
    for given in (columns.id, columns.findings, columns.impression):
        if given and given not in names:
            raise ConversionError(f"{path}: there is no column {given!r}; its columns are {', '.join(names)}")
    keys = _keys_of(found.cases)
    id_column = columns.id or max(names, key=lambda name: len(_cases_named(rows, name, keys)))
    if found.cases and not _cases_named(rows, id_column, keys):
        examples = ", ".join(repr(row[id_column]) for row in rows[:3])
        cases = ", ".join(repr(case["case_id"]) for case in found.cases[:3])
        which = f"column {columns.id!r} names none" if columns.id else "no column names one"
        raise ConversionError(
            f"{path}: {which} of the CTs; found {examples} in {id_column!r}, "
            f"expected names such as {cases}; give --id-column, or rename the CTs"
        )
    findings, impression = _text_columns(rows, names, id_column, columns, path)
    texts: dict[str, tuple[int, dict[str, str]]] = {}
    orphans = []
    for number, row in zip(table.row_numbers, rows):
        report = _report(row, findings, impression)
        cases = _named(row[id_column], keys)
        if not cases:
            orphans.append(row[id_column])
        for case_id in cases if report else ():
            before = texts.setdefault(case_id, (number, report))
            if before[1] != report:
                raise ConversionError(
                    f"{path}: rows {before[0]} and {number} hold different reports for case {case_id!r}; keep one of "
                    "them, or give the --id-column that tells them apart"
                )
    kept, dropped = [], list(found.dropped)
    for case in found.cases:
        report = texts.get(case["case_id"], (0, {}))[1]
        if report or case["region_map"] or case["lesion_masks"] or allow_neither:
            kept.append({**case, "report": report})
        else:
            dropped.append((case["case_id"], f"neither a mask nor a report in {path.name}; --allow-no-mask keeps it"))
    note = f"{path.name}: {len(texts)} of {len(found.cases)} CTs have a report; id column {id_column!r}"
    note += f", findings {findings!r}" if findings else ""
    note += f", impression {impression!r}" if impression else ""
    if orphans:
        note += f"; rows without a CT: {len(orphans)}, such as {orphans[0]!r}"
    return CaseList(kept, dropped, [*found.notes, *table.notes, note])


def _tails(name: str | None) -> list[str]:
    """A name or path without image suffix and case, longest first: "a/p1/ct.nii.gz" is "a/p1/ct", "p1/ct" and "ct"."""
    name = (name or "").strip().lower().replace("\\", "/")
    name = next((name[: -len(s)] for s in SUFFIXES if name.endswith(s)), name)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _keys_of(cases: list[dict]) -> dict[str, tuple[str, ...]]:
    """What a row may call a case, to the ids of the cases that it means. A name that several CTs share is no name."""
    means: dict[str, set[str]] = {}
    by_patient: dict[str, list[str]] = {}
    for case in cases:
        for name in {*_tails(case["case_id"]), *_tails(files_of(case)[0])}:
            means.setdefault(name, set()).add(case["case_id"])
        for name in _tails(case["patient_id"])[:1]:
            by_patient.setdefault(name, []).append(case["case_id"])
    keys = {name: tuple(ids) for name, ids in means.items() if len(ids) == 1}
    return {**{name: tuple(ids) for name, ids in by_patient.items()}, **keys}


def _named(value: str | None, keys: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Ids of the cases that a row's value names."""
    return next((keys[tail] for tail in _tails(value) if tail in keys), ())


def _cases_named(rows: list[dict[str, str]], column: str, keys: dict[str, tuple[str, ...]]) -> set[str]:
    return {case_id for row in rows for case_id in _named(row[column], keys)}


def _text_columns(
    rows: list[dict[str, str]], names: list[str], id_column: str, columns: ReportColumns, path: Path
) -> tuple[str | None, str | None]:
    """The columns of findings and impression: as given, else by name, else the one with the longest texts."""

    def named(words: tuple[str, ...]) -> str | None:
        free = (name for name in names if name not in (id_column, columns.findings, columns.impression))
        return next((name for name in free if any(word in name.lower() for word in words)), None)

    impression = columns.impression or named(IMPRESSION)
    findings = columns.findings or named(FINDINGS)
    if findings is None and impression is None:
        findings = named(WHOLE)
    if findings is None and impression is None:
        length = {name: sum(len(row[name] or "") for row in rows) / len(rows) for name in names if name != id_column}
        findings = max(length, key=length.get, default=None)
        if findings is None or length[findings] < 20:
            raise ConversionError(
                f"{path}: found columns {', '.join(names)}, none with reports; give --findings-column"
            )
    return findings, impression


def _report(row: dict[str, str], findings: str | None, impression: str | None) -> dict[str, str]:
    """Findings and impression of a row; a whole report with headings is split where no column holds the impression."""
    text = row[findings] if findings else ""
    if impression is None and (parts := split_report(text or "")):
        return parts
    report = {"findings": clean(text), "impression": clean(row[impression]) if impression else ""}
    return {name: part for name, part in report.items() if part}
