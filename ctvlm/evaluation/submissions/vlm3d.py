"""JSON submissions of the VLM3D challenge: write, read, check and score.

Format and rules: ct_challenges of github.com/forithmus/VLM3D-Dockers. The name of a case is the file name of its
volume. The evaluation removes the suffix, so that ``case.mha`` and ``case`` are the same case.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.protocols import protocol_scores
from ctvlm.evaluation.functional.vlm3d_reports import vlm3d_text_scores
from ctvlm.evaluation.functional.zero_shot_protocols import get_protocol
from ctvlm.evaluation.submissions.problem import Problem
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.utils import atomic_write
from ctvlm.utils.tables import read_csv

_SUFFIXES = (".nii.gz", ".nii", ".mha")
_VERSION = {"major": 1, "minor": 0}


def case_name(name: str) -> str:
    """Remove the suffix of a volume from the name of a case."""
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def write_classification(path: str | Path, probabilities: Mapping[str, Mapping[str, float]], suffix: str = "") -> None:
    """Write probabilities (case to finding to probability) as a classification submission.

    Args:
        suffix: appended to the name of each case; some phases of the challenge require ``.mha``.

    Raises:
        ValueError: a finding is missing or a probability is not in 0 to 1; no file is written.
    """
    entries = [
        {
            "input_image_name": case_name(case) + suffix,
            "probabilities": {label: _number(values.get(label)) for label in CT_RATE_LABELS},
        }
        for case, values in probabilities.items()
    ]
    content = {
        "name": "Generated probabilities",
        "type": "Abnormality Classification",
        "version": _VERSION,
        "predictions": entries,
    }
    _write(path, content, check_classification(content))


def write_reports(path: str | Path, reports: Mapping[str, str], suffix: str = "") -> None:
    """Write reports (case to text) as a report generation submission.

    Raises:
        ValueError: a report is empty or not a string; no file is written.
    """
    entries = [{"input_image_name": case_name(case) + suffix, "report": text} for case, text in reports.items()]
    content = {
        "name": "Generated reports",
        "type": "Report generation",
        "generated_reports": entries,
        "version": _VERSION,
    }
    _write(path, content, check_reports(content))


def read_submission(path: str | Path) -> dict[str, Any]:
    """Read a submission; the platform's wrapper ``[{"outputs": [{"value": ...}]}]`` is removed.

    Raises:
        ValueError: the file is not JSON or not a submission.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error}). Write it with ctvlm.evaluation.submissions.") from error
    if isinstance(content, list):
        try:
            content = content[0]["outputs"][0]["value"]
        except (IndexError, KeyError, TypeError):
            raise ValueError(f"{path}: found a list without [0].outputs[0].value; expected a submission.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: found a {type(content).__name__}; expected an object with the submission's fields.")
    return content


def read_labels(path: str | Path) -> dict[str, dict[str, float]]:
    """Read a ground truth CSV (``AccessionNo`` and the 18 findings) as case to finding to 1, 0 or NaN (empty)."""
    rows = _complete_rows(path, ("AccessionNo", *CT_RATE_LABELS))
    return {
        case_name(row["AccessionNo"]): {
            label: float(row[label]) if row[label].strip() else math.nan for label in CT_RATE_LABELS
        }
        for row in rows
    }


def _complete_rows(path: str | Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file. Raise an error for a row that is too short or too long."""
    table = read_csv(path, columns)
    if table.rejected:
        raise ValueError(table.notes[-1])
    return table.rows


def read_cases(path: str | Path) -> list[str]:
    """Read the names of the expected cases from CSV, a submission (JSON) or text with one name per line.

    Raises:
        ValueError: a CSV file does not have the column ``AccessionNo`` or ``VolumeName``, or there is no case.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = read_submission(path)
        entries = content.get("generated_reports") or content.get("predictions") or []
        names = [str(entry["input_image_name"]) for entry in entries]
    elif path.suffix.lower() == ".csv":
        rows = _complete_rows(path, ())
        column = next((c for c in ("AccessionNo", "VolumeName") if c in rows[0]), None)
        if column is None:
            raise ValueError(f"{path}: found columns {list(rows[0])}; expected 'AccessionNo' or 'VolumeName'.")
        names = [row[column] for row in rows]
    else:
        names = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not names:
        raise ValueError(f"{path}: found no case.")
    return names


def score_classification(submission: Mapping[str, Any], truth: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Score a classification submission by the challenge's protocol (``vlm3d``).

    Raises:
        ValueError: the submission has errors (see ``check_classification``).
    """
    problems = [p for p in check_classification(submission, truth) if p.fatal]
    if problems:
        raise ValueError(f"Cannot score the submission: {problems[0]} ({len(problems)} errors)")
    values = {case_name(entry["input_image_name"]): entry["probabilities"] for entry in submission["predictions"]}
    cases = [case_name(case) for case in truth]
    truth_NC = np.array([[truth[case][label] for label in CT_RATE_LABELS] for case in truth], dtype=float)
    probability_NC = np.array([[values[case][label] for label in CT_RATE_LABELS] for case in cases], dtype=float)
    return protocol_scores(get_protocol("vlm3d"), truth_NC, probability_NC)


def score_reports(submission: Mapping[str, Any], references: Mapping[str, str]) -> dict[str, float]:
    """Text scores of a report generation submission (see ``vlm3d_text_scores``).

    Args:
        references: case to report, with or without the volume's suffix.

    Raises:
        ValueError: the submission has errors (see ``check_reports``).
    """
    problems = [p for p in check_reports(submission, references) if p.fatal]
    if problems:
        raise ValueError(f"Cannot score the submission: {problems[0]} ({len(problems)} errors)")
    reports = {case_name(entry["input_image_name"]): entry["report"] for entry in submission["generated_reports"]}
    return vlm3d_text_scores([reports[case_name(case)] for case in references], list(references.values()))


def check_classification(submission: Mapping[str, Any], cases: Iterable[str] | None = None) -> list[Problem]:
    """Find all problems of a classification submission.

    Args:
        cases: expected names, with or without suffix; not checked by default.
    """
    problems = _check_header(submission, "Generated probabilities", "Abnormality Classification")
    entries, malformed = _entries(submission, "predictions")
    problems += malformed
    for name, entry in entries:
        values = entry.get("probabilities")
        if not isinstance(values, dict):
            problems.append(Problem(name, "found no object 'probabilities'; expected the 18 findings"))
            continue
        for label in CT_RATE_LABELS:
            if label not in values:
                problems.append(Problem(name, f"no probability of '{label}'; the challenge would use 0"))
        for label, value in values.items():
            if label not in CT_RATE_LABELS:
                problems.append(Problem(name, f"unknown finding '{label}'; expected a name of CT-RATE"))
            elif isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                problems.append(Problem(name, f"'{label}' is {value!r}; expected a number from 0 to 1"))
            elif not 0 <= value <= 1:
                problems.append(Problem(name, f"'{label}' is {value:g}; expected a number from 0 to 1"))
    return problems + _check_names([name for name, _ in entries], cases)


def check_reports(submission: Mapping[str, Any], cases: Iterable[str] | None = None) -> list[Problem]:
    """Find all problems of a report generation submission; arguments as in ``check_classification``."""
    problems = _check_header(submission, "Generated reports", "Report generation")
    entries, malformed = _entries(submission, "generated_reports")
    problems += malformed
    for name, entry in entries:
        report = entry.get("report")
        if not isinstance(report, str):
            problems.append(Problem(name, f"'report' is {report!r}; expected text"))
        elif not report.strip():
            problems.append(Problem(name, "the report is empty"))
    return problems + _check_names([name for name, _ in entries], cases)


def _check_header(submission: Mapping[str, Any], name: str, kind: str) -> list[Problem]:
    expected = {"name": name, "type": kind, "version": _VERSION}
    return [
        Problem(key, f"found {submission.get(key)!r}; expected {value!r}")
        for key, value in expected.items()
        if submission.get(key) != value
    ]


def _entries(submission: Mapping[str, Any], key: str) -> tuple[list[tuple[str, dict]], list[Problem]]:
    """(name, entry) of each well-formed entry, and the problems of the others."""
    items = submission.get(key)
    if not isinstance(items, list):
        return [], [Problem(key, f"found a {type(items).__name__}; expected a list with one entry per case")]
    entries, problems = [], []
    for position, entry in enumerate(items):
        name = entry.get("input_image_name") if isinstance(entry, dict) else None
        if isinstance(name, str) and case_name(name):
            entries.append((name, entry))
        else:
            problems.append(Problem(f"{key}[{position}]", f"'input_image_name' is {name!r}; expected a name"))
    return entries, problems


def _check_names(names: list[str], cases: Iterable[str] | None) -> list[Problem]:
    problems = []
    names_of: dict[str, list[str]] = {}
    for name in names:
        names_of.setdefault(case_name(name), []).append(name)
    for case, used in names_of.items():
        if len(used) > 1:
            quoted = ", ".join(f"'{name}'" for name in dict.fromkeys(used))
            problems.append(Problem(case, f"found {len(used)} entries ({quoted}); expected one per case"))
    with_suffix = [name for name in names if case_name(name) != name]
    if with_suffix and len(with_suffix) < len(names):
        problems.append(
            Problem(
                "names",
                f"{len(with_suffix)} of {len(names)} have a suffix ('{with_suffix[0]}'); expected all or none",
                fatal=False,
            )
        )
    if cases is not None:
        expected = {case_name(case) for case in cases}
        problems += [Problem(case, "missing; expected an entry") for case in sorted(expected - set(names_of))]
        problems += [
            Problem(case, "not a case of this test set. Check the name") for case in sorted(set(names_of) - expected)
        ]
    return problems


def _number(value: Any) -> Any:
    """Convert a number to float; other values are returned for the check to report."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _write(path: str | Path, content: dict[str, Any], problems: list[Problem]) -> None:
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        raise ValueError(f"Cannot write {path}: {fatal[0]} ({len(fatal)} errors)")
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
