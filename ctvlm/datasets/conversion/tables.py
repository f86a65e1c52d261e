"""Readers of CSV and JSON files, with errors that describe the actual content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ctvlm.datasets.conversion.case_list import ConversionError
from ctvlm.utils.tables import Table, TableError, find_conflicting_keys, read_csv, read_text
from ctvlm.utils.workbooks import read_table

__all__ = [
    "Table",
    "TableError",
    "first_of",
    "label_columns",
    "read_csv",
    "read_json",
    "read_records",
    "read_table",
    "read_text",
    "find_conflicting_keys",
]


def read_json(path: Path) -> tuple[Any, list[str]]:
    """Read a JSON file; returns its content and remarks on its encoding.

    Raises:
        ConversionError: not JSON, or a key occurs twice in an object with different values.
    """
    text, notes = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_object), notes
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is not JSON ({error})") from None


def read_records(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the records of a JSON Lines file, or of a JSON file with a list or with one list per key.

    Returns:
        The records and remarks on the encoding.

    Raises:
        ConversionError: not JSON (with the line number), no objects, or a duplicate key in an object.
    """
    text, notes = read_text(path)
    try:
        raw = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raw = []
        # Not splitlines(), because JSON strings may contain U+2028, U+2029 and U+0085.
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                raw += [json.loads(line, object_pairs_hook=_object)] if line.strip() else []
            except (ValueError, RecursionError) as error:
                message = f"{path} is neither JSON nor JSON Lines: line {number} ({error})"
                raise ConversionError(message) from None
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path}: {error}") from None
    if isinstance(raw, dict) and raw and all(isinstance(value, list) for value in raw.values()):
        raw = [record for value in raw.values() for record in value]
    raw = [raw] if isinstance(raw, dict) else raw
    if not isinstance(raw, list) or not raw or not all(isinstance(record, dict) for record in raw):
        raise ConversionError(f"{path}: found {type(raw).__name__}; expected a list of objects, or one object per line")
    return raw, notes


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, and raise an error for duplicate keys, which ``json.loads`` accepts silently."""
    out: dict[str, Any] = {}
    for key, value in pairs:
        if out.setdefault(key, value) != value:
            raise ValueError(f"the key {key!r} occurs twice in one object with different values")
    return out


def first_of(record: dict[str, Any], keys: Iterable[str]) -> Any:
    """Return the first non-empty value among ``keys``, or None."""
    return next((record[key] for key in keys if record.get(key) not in (None, "", [])), None)


def label_columns(
    rows: list[dict[str, str]], values: Mapping[str, int | None], skip: Iterable[str]
) -> tuple[list[str], str]:
    """Columns that contain only the keys of ``values`` and at least one label that is not None.

    Args:
        values: lower-case cell to label.
        skip: columns that are not labels.

    Returns:
        The columns, and a remark on the ignored ones, or "".
    """
    columns, ignored = [], []
    for column in set(rows[0]) - set(skip):
        cells = {row[column].strip().lower() for row in rows}
        if unknown := sorted(cells - set(values)):
            ignored.append(f"{column} (such as {unknown[0]!r})")
        elif any(values[cell] is not None for cell in cells):
            columns.append(column)
        else:
            ignored.append(f"{column} (no value)")
    remark = f"columns that are not used as labels: {', '.join(sorted(ignored))}" if ignored else ""
    return [column for column in rows[0] if column in columns], remark
