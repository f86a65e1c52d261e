"""Random tables and reasoning records raise only the project's errors; see test_fuzz.py for the number of examples."""

from __future__ import annotations

import csv
import io
import json

import pytest

from ctvlm.anatomy import mention_lexicon
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError
from ctvlm.datasets.conversion.ct_rate_cot import read_record, record_steps
from ctvlm.datasets.conversion.ct_rate_files import rows_by_name, spacing_of
from ctvlm.datasets.conversion.reports import ReportColumns, add_reports
from ctvlm.datasets.conversion.tables import TableError, read_csv, read_json, read_records
from tests.test_datasets.test_fuzz import fuzz, hypothesis, st, values

OWN = (TableError, ConversionError)

cells = st.one_of(
    st.sampled_from(["case_1", "case_1.nii.gz", "VolumeName", "report", "XYSpacing", "ZSpacing", "[0.7, 0.7]", "1.5"]),
    st.sampled_from(["[1e999, 1]", "[" * 20_000, "nan", "-1", '"', "a\nb", "Findings: a. Impression: b.", "9" * 400]),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
tables = st.lists(st.lists(cells, max_size=4), min_size=1, max_size=5)


def table_text(rows, quoted: bool, delimiter: str) -> str:
    if not quoted:
        return "\n".join(delimiter.join(row) for row in rows)
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()


def case() -> dict:
    volume = dict(path="case_1.nii.gz")
    return dict(case_id="case_1", patient_id="p", volume=volume, region_map=None, lesion_masks=[], report={})


@fuzz
@hypothesis.given(tables, st.booleans(), st.sampled_from([",", ";", "\t"]))
def test_csv_rows(tmp_path, rows, quoted, delimiter):
    path = tmp_path / "a.csv"
    path.write_text(table_text(rows, quoted, delimiter), encoding="utf-8", newline="")
    calls = [
        lambda: [spacing_of(row) for row in read_csv(path).rows],
        lambda: read_csv(path, ("VolumeName",)),
        lambda: rows_by_name([path]),
        lambda: add_reports(CaseList([case()]), path, ReportColumns()),
        lambda: add_reports(CaseList([case()]), path, ReportColumns(id="VolumeName", findings="report")),
    ]
    for call in calls:
        try:
            call()
        except OWN as error:
            assert "a.csv" in str(error)


@fuzz
@hypothesis.given(st.binary(max_size=60))
def test_table_bytes(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    for read in (read_csv, read_json, read_records):
        try:
            read(path)
        except OWN as error:
            assert "a.csv" in str(error)


turns = st.lists(st.dictionaries(st.sampled_from(["from", "role", "value", "content"]), values, max_size=3), max_size=3)
names = ["volume", "image", "question", "thinking", "answer", "report", "conversations", "messages"]
tagged = st.sampled_from(["<think>a</think><answer>b</answer>", "Step 1: a. Step 2: b.", "<task>", "Findings: a"])
records = st.dictionaries(st.sampled_from(names), st.one_of(values, turns, tagged), max_size=5)


@fuzz
@hypothesis.given(st.one_of(st.lists(records, max_size=3), st.dictionaries(st.text(max_size=3), values), values))
def test_reasoning_records(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    try:
        found, _ = read_records(path)
    except OWN as error:
        assert "a.json" in str(error)
        return
    for record in found:
        try:
            steps = record_steps(read_record(record), mention_lexicon())
        except ConversionError:
            continue
        assert all(isinstance(step["text"], str) for step in steps)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 400, "[1, 9e999]", "x"])
def test_invalid_spacing(text):
    assert spacing_of(dict(XYSpacing=text, ZSpacing=text)) is None


@pytest.mark.parametrize("read", [read_json, read_records])
@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "[" + "9" * 10_000 + "]"])
def test_deep_and_long_json(tmp_path, read, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ConversionError, match="a.json"):
        read(tmp_path / "a.json")
