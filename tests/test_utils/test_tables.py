"""Reading CSV files from other programs."""

from __future__ import annotations

import csv
import io
import json

import pytest

from ctvlm.datasets.conversion.case_list import ConversionError
from ctvlm.datasets.conversion.tables import read_records
from ctvlm.utils.placeholders import is_missing
from ctvlm.utils.tables import DELIMITERS, TableError, find_conflicting_keys, read_csv, read_text

ROWS = [
    {"VolumeName": "valid_1_a_1.nii.gz", "Findings_EN": 'A "5 mm" nodule; small, round.\nNo effusion.', "x": "1"},
    {"VolumeName": "valid_2_a_1.nii.gz", "Findings_EN": "Café, naïve, 3 × 2 mm.", "x": ""},
]


def as_csv(rows, delimiter=","):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_delimiter_and_encoding_are_detected_and_reported(tmp_path, delimiter, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(as_csv(ROWS, delimiter).encode(encoding))
    table = read_csv(path, ["VolumeName", "Findings_EN"])
    assert table.rows == ROWS and not table.rejected
    notes = " ".join(table.notes)
    assert (encoding in notes) == (encoding not in ("utf-8", "utf-8-sig"))
    assert (DELIMITERS[delimiter] in notes) == (delimiter != ",")


def test_blanks_around_column_names_are_removed_and_reported(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(as_csv([{f" {key} ": value for key, value in row.items()} for row in ROWS]), encoding="utf-8")
    table = read_csv(path, ["VolumeName", "Findings_EN"])
    assert table.rows == ROWS and len(table.notes) == 1


def test_rows_with_a_wrong_number_of_cells_are_rejected(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('name,text,x\na,one,1\nb,two, three,2\n\nc,four\nd,"five, six",3\n')
    table = read_csv(path, ["name", "text"])
    assert [row["name"] for row in table.rows] == ["a", "d"] and table.rows[1]["text"] == "five, six"
    assert table.row_numbers == [2, 6] and table.rejected == [(3, "4 cells"), (5, "2 cells")]
    (note,) = table.notes
    assert "2 of 4" in note and "row 3" in note and "row 5" in note


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"a,b\n1,2,3\n", "row 2 .3 cells"),
        (b"a,b\n", "a, b"),
        (b"", "a, b"),
        (b"A,b\n1,2\n", "'A' to 'a'"),
        (b"c,b\n1,2\n", r"\['c', 'b'\].*a, b"),
        (b"a,b,a\n1,2,3\n", "'a'"),
        (b'a,b\n1,"two\n3,four\n', "row 2"),
        (b'a,b\n1,"two" mm\n', "row 2"),
        (b"PK\x03\x04....", "Excel"),
        (b"\x1f\x8b\x08..", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"a,b\n1,\x81\n", r"byte 6 \(line 2\).*cp1252"),
        ("a,b\né,".encode() + "é\n".encode("cp1252"), r"byte 7 \(line 2\)"),
        (b"a,b\n\x00,2\n", "UTF-8"),
    ],
)
def test_errors_state_the_file_and_the_cause(tmp_path, content, cause):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=cause) as error:
        read_csv(path, ["a", "b"])
    assert str(path) in str(error.value)


def test_line_separators_inside_a_text_do_not_end_a_row(tmp_path):
    rows = [dict(name="a", text="one\u2028two\u2029three\x85four\x0bfive\x1csix")]
    (tmp_path / "t.csv").write_text(as_csv(rows), encoding="utf-8")
    assert read_csv(tmp_path / "t.csv").rows == rows
    (tmp_path / "t.jsonl").write_text(json.dumps(rows[0], ensure_ascii=False) + "\n" + '{"name": "b"}\n', "utf-8")
    assert read_records(tmp_path / "t.jsonl")[0] == [*rows, {"name": "b"}]


def test_keys_whose_rows_have_different_texts():
    rows = [
        dict(name=n, text=t, x=x) for n, t, x in (("a", "one", 1), ("b", "two", 1), ("a", "one ", 2), ("b", "3", 1))
    ]
    assert find_conflicting_keys(rows, "name", ["text"]) == ["b"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_records_in_other_encodings(tmp_path, encoding):
    (tmp_path / "t.jsonl").write_bytes('{"a": "é"}\n{"a": "b"}\n'.encode(encoding))
    records, notes = read_records(tmp_path / "t.jsonl")
    assert [r["a"] for r in records] == ["é", "b"]
    assert bool(notes) == (encoding in ("utf-16", "cp1252"))


@pytest.mark.parametrize(
    ("text", "cause"),
    [('{"a": 1}\n{"a": \n', "line 2"), ('{"a": 1, "a": 2}', "'a'"), ('{"a": 1}\n{"a": 1, "a": 2}', "line 2.*'a'")],
)
def test_errors_in_records_state_the_line(tmp_path, text, cause):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(ConversionError, match=cause):
        read_records(tmp_path / "t.jsonl")


@pytest.mark.parametrize("text", ["N/A", "n/a.", "None.", "NONE", "-", " - ", "--", "–", "nil", "Nil.", "na", ""])
@pytest.mark.parametrize("padding", ["", "  ", "\n\t"])
def test_placeholders_are_missing(text, padding):
    assert is_missing(f"{padding}{text}{padding}")


def test_not_given_is_missing_and_a_short_impression_is_not():
    assert is_missing("Not given.") and is_missing(" not  GIVEN ") and is_missing(None)
    assert not any(map(is_missing, ["Normal.", "None seen.", "No.", "Nil acute.", "1", "阴性"]))


def test_real_tables_are_read_without_notes(shared_data):
    for path in sorted((shared_data / "text" / "ct_rate").glob("*.csv")):
        table = read_csv(path, ["VolumeName"])
        assert len(table.rows) >= 240 and not table.notes and not table.rejected
    assert read_text(path)[1] == []
