"""Readers of CSV and text files in any common encoding, with errors that state the cause."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ctvlm.utils.errors import CTVLMError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is a prefix of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# First bytes of other file types that are often passed as a table.
OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive; export the sheet as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; export the sheet as CSV in UTF-8",
    b"\x1f\x8b": "a gzip-compressed file; unpack it first",
    b"PAR1": "a Parquet file; export it as CSV in UTF-8",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself (git lfs pull)",
}
# Accented letters, quotation marks and dashes in UTF-8; these bytes do not occur in this order in cp1252 text.
UTF8_LETTER = re.compile(rb"[\xc3-\xc5][\x80-\xbf]|\xe2\x80[\x80-\xbf]")
MAX_LISTED = 5


class TableError(CTVLMError, ValueError):
    """A table cannot be read. The message states the file, the cause and what to do."""


@dataclass
class Table:
    """Content of a CSV file.

    Attributes:
        rows: column name to cell.
        row_numbers: number of each row in the file.
        rejected: (row number, reason) of rows that were not read.
        notes: remarks about the file.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    row_numbers: list[int] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_text(path: str | Path) -> tuple[str, list[str]]:
    """Read a text file; returns the text and a list with a note if the file is not UTF-8.

    UTF-8, UTF-16 and UTF-32 are detected; any other file is read as cp1252, the usual encoding of Windows.

    Raises:
        TableError: the file is not text, or mixes encodings.
    """
    raw = Path(path).read_bytes()
    for start, what in OTHER_FILES.items():
        if raw.startswith(start):
            raise TableError(f"{path}: found {what}.")
    encoding = next((name for mark, name in BOMS.items() if raw.startswith(mark)), None) or _utf16_without_mark(raw)
    try:
        text = raw.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding:
            raise TableError(f"{path}: found the start of {encoding}, but {error}. Save it as UTF-8.") from None
        return _read_cp1252(path, raw, error)
    if "\0" in text:
        raise TableError(f"{path}: found zero bytes; expected a text file in UTF-8.")
    return text, [f"{path}: read as {encoding}"] if encoding not in (None, "utf-8-sig") else []


def _utf16_without_mark(raw: bytes) -> str | None:
    """Detect UTF-16 without a byte order mark: in mostly ASCII text every second byte is zero."""
    start = raw[:2000]
    half = len(start) // 2
    for name, zeros in (("utf-16-le", start[1::2].count(0)), ("utf-16-be", start[0::2].count(0))):
        if half and zeros > 0.4 * half:
            return name
    return None


def _read_cp1252(path: str | Path, raw: bytes, error: UnicodeDecodeError) -> tuple[str, list[str]]:
    position = f"byte {error.start} (line {raw[: error.start].count(10) + 1})"
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        raise TableError(
            f"{path}: {position} is neither UTF-8 nor cp1252. The file has another Windows encoding (cp1254, GBK, ...) "
            "or is damaged. Save it as UTF-8."
        ) from None
    if UTF8_LETTER.search(raw):
        raise TableError(f"{path}: found UTF-8 except for {position}: the file mixes two encodings. Save it as UTF-8.")
    note = f"{path}: not UTF-8 at {position}; read as cp1252 (Windows). Check accented letters, or save it as UTF-8."
    return text, [note]


def read_csv(path: str | Path, required: Iterable[str] = ()) -> Table:
    """Read the rows of a CSV file.

    The delimiter (comma, semicolon, tab, vertical bar) and the encoding are detected, and blanks around column names
    are removed; ``notes`` reports each of these, except tabs in a ``.tsv``. A row with more or fewer cells than the
    header is rejected, because its cells may be in the wrong columns. Row numbers start at 1 for the header, as in a
    spreadsheet.

    Args:
        required: names of columns that the file must have.

    Raises:
        TableError: the file is not text, has no valid row, a duplicate column, or lacks a required column.
    """
    # Large enough for any report.
    csv.field_size_limit(2**27)
    required = list(required)
    text, notes = read_text(path)
    delimiter = _delimiter(text, required)
    if delimiter != ("\t" if str(path).lower().endswith(".tsv") else ","):
        notes.append(f"{path}: columns are separated by {DELIMITERS[delimiter]}")
    # Strict: after a misplaced quotation mark the ends of cells are unknown.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    try:
        records.extend(reader)
    except csv.Error as error:
        raise TableError(
            f"{path}, row {len(records) + 1}: found a quotation mark that is not closed, or not doubled inside a "
            f"quoted cell ({error}). Correct that row."
        ) from None
    header = [name.strip() for name in records[0]] if records else []
    if header and header != records[0]:
        notes.append(f"{path}: blanks around column names were removed")
    check_header(path, header, required)
    table = Table(notes=notes)
    for number, cells in enumerate(records[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) == len(header):
            table.row_numbers.append(number)
            table.rows.append({name: cell for name, cell in zip(header, cells) if name})
        else:
            table.rejected.append((number, f"{len(cells)} cells"))
    if table.rejected:
        listed = ", ".join(f"row {number} ({what})" for number, what in table.rejected[:MAX_LISTED])
        more = len(table.rejected) - MAX_LISTED
        notes.append(
            f"{path}: {len(table.rejected)} of {len(table.rows) + len(table.rejected)} rows rejected: the header "
            f"has {len(header)} cells: {listed}{f' and {more} more' if more > 0 else ''}. A text probably contains an "
            f"unquoted {DELIMITERS[delimiter].removesuffix('s')}."
        )
    if not table.rows:
        found = f"no row with the header's {len(header)} cells ({notes[-1]})" if table.rejected else "no rows"
        raise TableError(f"{path}: found {found}; expected rows with the columns {', '.join(required or header)}.")
    return table


def _delimiter(text: str, required: list[str]) -> str:
    """Delimiter that gives most of the ``required`` columns in the header, then most columns."""

    def fit(delimiter: str) -> tuple[int, int]:
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            return 0, 0
        names = {name.strip() for name in header}
        return sum(name in names for name in required), len(header)

    return max(DELIMITERS, key=fit)


def check_header(path: str | Path, header: list[str], required: list[str]) -> None:
    """Raise a TableError if a column name occurs twice or a required one is missing."""
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise TableError(f"{path}: found column {twice[0]!r} twice; expected unique names. Rename one of them.")
    missing = [name for name in required if name not in header]
    if not missing:
        return
    plain = {"".join(filter(str.isalnum, name.lower())): name for name in header}
    similar = [(name, plain[key]) for name in missing if (key := "".join(filter(str.isalnum, name.lower()))) in plain]
    hint = f"Rename {similar[0][1]!r} to {similar[0][0]!r}." if similar else "Check that it is the right file."
    raise TableError(f"{path}: found columns {header[:30]}; expected {', '.join(required)}. {hint}")


def find_conflicting_keys(rows: Iterable[dict[str, str]], key: str, columns: Iterable[str]) -> list[str]:
    """Values of column ``key`` whose rows differ in any of ``columns``, in row order."""
    columns = list(columns)
    first: dict[str, list[str]] = {}
    out: dict[str, None] = {}
    for row in rows:
        content = [" ".join((row.get(column) or "").split()) for column in columns]
        if first.setdefault(row[key], content) != content:
            out[row[key]] = None
    return list(out)
