"""Reader of tables in Excel workbooks or CSV files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ctvlm.utils.errors import MissingPackageError
from ctvlm.utils.tables import Table, TableError, check_header, read_csv


def read_table(path: str | Path, required: Iterable[str] = ()) -> Table:
    """Read the first sheet of an ``.xlsx`` workbook, or a CSV file with ``read_csv``.

    Every cell becomes text: empty cells are "", whole numbers have no decimal point, and formulas give their stored
    value. Cells that a row does not have are empty.

    Args:
        required: names of columns that the table must have.

    Raises:
        TableError: as ``read_csv``, or the file is not a workbook.
        MissingPackageError: openpyxl is not installed.
    """
    if Path(path).suffix.lower() != ".xlsx":
        return read_csv(path, required)
    required = list(required)
    rows, notes = _sheet(path)
    header = [name.strip() for name in rows[0]] if rows else []
    while header and not header[-1]:
        header.pop()
    check_header(path, header, required)
    table = Table(notes=notes)
    for number, cells in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in cells):
            table.row_numbers.append(number)
            padded = cells + [""] * (len(header) - len(cells))
            table.rows.append({name: cell for name, cell in zip(header, padded) if name})
    if not table.rows:
        raise TableError(f"{path}: found no rows; expected rows with the columns {', '.join(required or header)}.")
    return table


def _sheet(path: str | Path) -> tuple[list[list[str]], list[str]]:
    """Cells of the first sheet, and a note if there are others."""
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.escape import unescape
    except ImportError:
        raise MissingPackageError(
            f"{path}: reading a workbook needs openpyxl: pip install 'ctvlm[excel]'; or save it as CSV in UTF-8"
        ) from None
    with open(path, "rb") as file:
        try:
            book = load_workbook(file, read_only=True, data_only=True)
            sheet = book.worksheets[0]
            # The stored size of a sheet may be wrong.
            sheet.reset_dimensions()
            rows = [[_text(cell, unescape) for cell in row] for row in sheet.iter_rows(values_only=True)]
        except Exception as error:
            # openpyxl raises many types of exceptions for other and damaged files.
            raise TableError(f"{path}: found no readable Excel workbook ({error}). Download it again.") from error
        others = [other.title for other in book.worksheets[1:]]
    notes = [f"{path}: read the sheet {sheet.title!r}; not read: {', '.join(others)}"] if others else []
    return rows, notes


def _text(cell: Any, unescape: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    # Excel stores a carriage return as _x000D_.
    return unescape(cell) if isinstance(cell, str) else str(cell)
