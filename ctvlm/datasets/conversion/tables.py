"""CSV and JSON files of the data sets, with errors that say what a file holds instead."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ctvlm.datasets.conversion.found import ConversionError


def read_csv(path: Path, needs: Iterable[str] = ()) -> list[dict[str, str]]:
    """Rows of a CSV file by column name.

    Raises:
        ConversionError: empty, not UTF-8, or without one of the columns in ``needs``.
    """
    # A radiology report fits, whatever its length; "utf-8-sig" because spreadsheets leave a byte order mark.
    csv.field_size_limit(2**27)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConversionError(f"{path} is not a CSV file in UTF-8 ({error})") from None
    missing = [name for name in needs if name not in (reader.fieldnames or [])]
    if missing or not rows:
        found = f"columns {reader.fieldnames}" if missing else "no rows"
        raise ConversionError(f"{path}: found {found}; expected {', '.join(needs)} with rows; is it the right file?")
    return rows


def read_records(path: Path) -> list[dict[str, Any]]:
    """Records of a JSON Lines file, or of a JSON file that holds a list, or one list per key.

    Raises:
        ConversionError: not JSON, or no objects in it.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        raw = json.loads(text)
    except json.JSONDecodeError:
        try:
            raw = [json.loads(line) for line in text.split("\n") if line.strip()]
        except json.JSONDecodeError as error:
            raise ConversionError(f"{path} is neither JSON nor JSON Lines ({error})") from None
    if isinstance(raw, dict) and raw and all(isinstance(value, list) for value in raw.values()):
        raw = [record for value in raw.values() for record in value]
    raw = [raw] if isinstance(raw, dict) else raw
    if not isinstance(raw, list) or not raw or not all(isinstance(record, dict) for record in raw):
        raise ConversionError(f"{path}: found {type(raw).__name__}; expected a list of objects, or one object a line")
    return raw


def first_of(record: dict[str, Any], keys: Iterable[str]) -> Any:
    """The value under the first of ``keys`` that the record has, filled; None without."""
    return next((record[key] for key in keys if record.get(key) not in (None, "", [])), None)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key under which ``valid_2`` comes before ``valid_10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
