"""CSV and JSON files of the data sets, with errors that say what a file holds instead."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ctvlm.datasets.conversion.case_list import ConversionError
from ctvlm.utils.tables import Table, TableError, find_conflicting_keys, read_csv, read_text

__all__ = [
    "Table",
    "TableError",
    "first_of",
    "read_csv",
    "read_json",
    "read_records",
    "read_text",
    "find_conflicting_keys",
]


def read_json(path: Path) -> tuple[Any, list[str]]:
    """Content of a JSON file, and remarks on its encoding.

    Raises:
        ConversionError: not JSON, or an object with one key twice and different values.
    """
    text, notes = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_object), notes
    except ValueError as error:
        raise ConversionError(f"{path} is not JSON ({error})") from None


def read_records(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Records of a JSON Lines file, or of a JSON file that holds a list, or one list per key; remarks on its encoding.

    Raises:
        ConversionError: not JSON (names the line), no objects in it, or an object with one key twice.
    """
    text, notes = read_text(path)
    try:
        raw = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raw = []
        # Not splitlines(): a JSON text may hold U+2028, U+2029 and U+0085.
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                raw += [json.loads(line, object_pairs_hook=_object)] if line.strip() else []
            except ValueError as error:
                message = f"{path} is neither JSON nor JSON Lines: line {number} ({error})"
                raise ConversionError(message) from None
    except ValueError as error:
        raise ConversionError(f"{path}: {error}") from None
    if isinstance(raw, dict) and raw and all(isinstance(value, list) for value in raw.values()):
        raw = [record for value in raw.values() for record in value]
    raw = [raw] if isinstance(raw, dict) else raw
    if not isinstance(raw, list) or not raw or not all(isinstance(record, dict) for record in raw):
        raise ConversionError(f"{path}: found {type(raw).__name__}; expected a list of objects, or one object a line")
    return raw, notes


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; json.loads alone keeps the last of two values under one key without a word."""
    out: dict[str, Any] = {}
    for key, value in pairs:
        if out.setdefault(key, value) != value:
            raise ValueError(f"the key {key!r} is there twice in one object, with different values")
    return out


def first_of(record: dict[str, Any], keys: Iterable[str]) -> Any:
    """The value under the first of ``keys`` that the record has, filled; None without."""
    return next((record[key] for key in keys if record.get(key) not in (None, "", [])), None)
