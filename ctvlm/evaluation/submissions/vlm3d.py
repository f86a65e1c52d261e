"""The VLM3D challenge's JSON files: write, read, check, score.

Format and rules: ct_challenges of github.com/forithmus/VLM3D-Dockers. A case is named by its volume's file name; the
evaluation drops the suffix, so that ``case.mha`` and ``case`` are one case.
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
    """Name of a case without the suffix of its volume."""
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def write_classification(path: str | Path, probabilities: Mapping[str, Mapping[str, float]], suffix: str = "") -> None:
    """Write probabilities (case to finding to probability) as a classification submission.

    Args:
        suffix: put after each case's name, ``.mha`` where the challenge's phase asks for it.

    Raises:
        ValueError: for a finding left out or a probability outside 0 to 1; nothing is written then.
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
        ValueError: for a report that is empty or no text; nothing is written then.
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
    """Content of a submission, with or without the platform's ``[{"outputs": [{"value": ...}]}]`` around it.

    Raises:
        ValueError: the file is no JSON, or holds something else.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): write it with ctvlm.evaluation.submissions.") from error
    if isinstance(content, list):
        try:
            content = content[0]["outputs"][0]["value"]
        except (IndexError, KeyError, TypeError):
            raise ValueError(f"{path} is a list without [0].outputs[0].value: expected a submission.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: expected an object with the submission's fields.")
    return content


def read_labels(path: str | Path) -> dict[str, dict[str, float]]:
    """Ground truth CSV (``AccessionNo`` and the 18 findings) as case to finding to 1, 0 or NaN (empty)."""
    rows = _whole_rows(path, ("AccessionNo", *CT_RATE_LABELS))
    return {
        case_name(row["AccessionNo"]): {
            label: float(row[label]) if row[label].strip() else math.nan for label in CT_RATE_LABELS
        }
        for row in rows
    }


def _whole_rows(path: str | Path, needs: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file; one that is cut off or too long is an error, because every case counts."""
    table = read_csv(path, needs)
    if table.rejected:
        raise ValueError(table.notes[-1])
    return table.rows


def read_cases(path: str | Path) -> list[str]:
    """Names of the cases a submission must hold: a CSV with ``AccessionNo`` or ``VolumeName``, a reports JSON, or
    text with one name per line.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = read_submission(path)
        entries = content.get("generated_reports") or content.get("predictions") or []
        names = [str(entry["input_image_name"]) for entry in entries]
    elif path.suffix.lower() == ".csv":
        rows = _whole_rows(path, ())
        column = next((c for c in ("AccessionNo", "VolumeName") if c in rows[0]), None)
        if column is None:
            raise ValueError(f"{path}: columns {list(rows[0])}; expected 'AccessionNo' or 'VolumeName'.")
        names = [row[column] for row in rows]
    else:
        names = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not names:
        raise ValueError(f"{path} names no case.")
    return names


def score_classification(submission: Mapping[str, Any], truth: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Scores of a submission by the challenge's protocol (``vlm3d``).

    Raises:
        ValueError: the submission has an error; check it first.
    """
    problems = [p for p in check_classification(submission, truth) if p.fatal]
    if problems:
        raise ValueError(f"The submission cannot be scored: {problems[0]} ({len(problems)} errors)")
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
        ValueError: the submission has an error; check it first.
    """
    problems = [p for p in check_reports(submission, references) if p.fatal]
    if problems:
        raise ValueError(f"The submission cannot be scored: {problems[0]} ({len(problems)} errors)")
    reports = {case_name(entry["input_image_name"]): entry["report"] for entry in submission["generated_reports"]}
    return vlm3d_text_scores([reports[case_name(case)] for case in references], list(references.values()))


def check_classification(submission: Mapping[str, Any], cases: Iterable[str] | None = None) -> list[Problem]:
    """Everything wrong with a classification submission; empty where it is right.

    Args:
        cases: names that must be there, with or without suffix; not checked by default.
    """
    problems = _check_header(submission, "Generated probabilities", "Abnormality Classification")
    entries, found = _entries(submission, "predictions")
    problems += found
    for name, entry in entries:
        values = entry.get("probabilities")
        if not isinstance(values, dict):
            problems.append(Problem(name, "no 'probabilities': expected an object of the 18 findings"))
            continue
        for label in CT_RATE_LABELS:
            if label not in values:
                problems.append(Problem(name, f"no probability of '{label}': the challenge would read 0"))
        for label, value in values.items():
            if label not in CT_RATE_LABELS:
                problems.append(Problem(name, f"unknown finding '{label}': expected CT-RATE's spelling"))
            elif isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                problems.append(Problem(name, f"'{label}' is {value!r}: expected a number from 0 to 1"))
            elif not 0 <= value <= 1:
                problems.append(Problem(name, f"'{label}' is {value:g}: expected a probability from 0 to 1"))
    return problems + _check_names([name for name, _ in entries], cases)


def check_reports(submission: Mapping[str, Any], cases: Iterable[str] | None = None) -> list[Problem]:
    """Everything wrong with a report generation submission; arguments as in ``check_classification``."""
    problems = _check_header(submission, "Generated reports", "Report generation")
    entries, found = _entries(submission, "generated_reports")
    problems += found
    for name, entry in entries:
        report = entry.get("report")
        if not isinstance(report, str):
            problems.append(Problem(name, f"'report' is {report!r}: expected text"))
        elif not report.strip():
            problems.append(Problem(name, "the report is empty"))
    return problems + _check_names([name for name, _ in entries], cases)


def _check_header(submission: Mapping[str, Any], name: str, kind: str) -> list[Problem]:
    expected = {"name": name, "type": kind, "version": _VERSION}
    return [
        Problem(key, f"{submission.get(key)!r}: expected {value!r}")
        for key, value in expected.items()
        if submission.get(key) != value
    ]


def _entries(submission: Mapping[str, Any], key: str) -> tuple[list[tuple[str, dict]], list[Problem]]:
    """(name, entry) of each well-formed entry, and what is wrong with the others."""
    listed = submission.get(key)
    if not isinstance(listed, list):
        return [], [Problem(key, f"{type(listed).__name__}: expected a list with one entry per case")]
    entries, problems = [], []
    for position, entry in enumerate(listed):
        name = entry.get("input_image_name") if isinstance(entry, dict) else None
        if isinstance(name, str) and case_name(name):
            entries.append((name, entry))
        else:
            problems.append(Problem(f"{key}[{position}]", f"'input_image_name' is {name!r}: expected the case's name"))
    return entries, problems


def _check_names(names: list[str], cases: Iterable[str] | None) -> list[Problem]:
    problems = []
    written: dict[str, list[str]] = {}
    for name in names:
        written.setdefault(case_name(name), []).append(name)
    for case, forms in written.items():
        if len(forms) > 1:
            shown = " and ".join(f"'{form}'" for form in dict.fromkeys(forms))
            problems.append(Problem(case, f"listed {len(forms)} times, as {shown}: keep one entry per case"))
    with_suffix = [name for name in names if case_name(name) != name]
    if with_suffix and len(with_suffix) < len(names):
        problems.append(
            Problem(
                "names",
                f"{len(with_suffix)} of {len(names)} have a suffix ('{with_suffix[0]}'), the others none: use one form",
                fatal=False,
            )
        )
    if cases is not None:
        expected = {case_name(case) for case in cases}
        problems += [Problem(case, "missing: every case needs an entry") for case in sorted(expected - set(written))]
        problems += [
            Problem(case, "not a case of this test set: check the name") for case in sorted(set(written) - expected)
        ]
    return problems


def _number(value: Any) -> Any:
    """Plain float of a numpy or torch number; other things stay for the checker to name."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _write(path: str | Path, content: dict[str, Any], problems: list[Problem]) -> None:
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        raise ValueError(f"{path} not written: {fatal[0]} ({len(fatal)} errors)")
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
