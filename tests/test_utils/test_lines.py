"""Lines of data files end at line feeds only. ``str.splitlines`` would also split at U+2028, U+2029 and U+0085."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from ctvlm.datasets.conversion.journal import Journal
from ctvlm.datasets.conversion.tables import read_records
from ctvlm.datasets.manifest import read_manifest, write_manifest
from ctvlm.experiments.search.trials import read_validations

SEPARATORS = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\r\n"
# Any text, with frequent line separators.
TEXTS = st.text(st.one_of(st.sampled_from(SEPARATORS), st.characters(exclude_categories=["Cs"])), min_size=1)
# Files that split messages and logs for display or replace line breaks; none of them reads records.
ALLOWED = {
    "ctvlm/engine/checkpoint/files.py",
    "ctvlm/engine/cli/errors.py",
    "ctvlm/experiments/training_process.py",
    "ctvlm/volume/readers.py",
    "ctvlm/evaluation/functional/vlm3d_reports.py",  # every line break becomes a blank before METEOR
    "tools/dataset_converters/write_phantom.py",
}


def case_of(text: str, number: int = 0) -> dict:
    return dict(
        case_id=f"{text}{number}",
        patient_id=f"{text}{number}",
        split="train",
        volume=dict(path="/data/ct.nii.gz"),
        region_map=None,
        lesion_masks=[dict(path="/data/m.nii.gz", id=1, name=text)],
        # A blank or placeholder report ("-") is read as missing.
        report=dict(findings=f"Cyst.{text}Scar.", impression=f"Cyst.{text}Scar."),
        cot=[dict(step=1, text=text, entities=[text], regions=[], lesion=1, question=text)],
        labels={text: 1},
        source=text,
        extra={text: text},
    )


@given(st.lists(TEXTS, min_size=1, max_size=3, unique=True))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_the_manifest(texts):
    cases = [case_of(text, number) for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.jsonl")
        write_manifest(cases, path)
        assert read_manifest(path, allow_outside=True) == cases


@given(st.lists(TEXTS, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_the_converters_journal(texts):
    entries = {f"key{i}": dict(reason=text, notes=[text], case=None) for i, text in enumerate(texts)}
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "m.jsonl"))
        for key, entry in entries.items():
            journal.add(key, entry)
        assert Journal(Path(folder, "m.jsonl")).results == entries


@given(st.lists(TEXTS, min_size=2, max_size=3))
@settings(max_examples=40, deadline=None)
def test_any_text_survives_json_lines_of_a_data_set(texts):
    records = [{"answer": text} for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cot.jsonl")
        path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records), encoding="utf-8")
        assert read_records(path)[0] == records


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_windows_line_endings(end, tmp_path):
    (tmp_path / "m.jsonl").write_bytes(end.join(json.dumps(case_of("a", i)) for i in range(2)).encode() + end.encode())
    assert [case["case_id"] for case in read_manifest(tmp_path / "m.jsonl", allow_outside=True)] == ["a0", "a1"]


def test_scalars_with_a_separator_in_a_text(tmp_path):
    path = tmp_path / "run" / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"note": "a\u2028b", "r": 0.5, "step": 2}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_validations(tmp_path, "r") == [(2, 0.5)]


def test_no_data_reader_uses_splitlines(repo_root):
    sources = [path for folder in ("ctvlm", "tools") for path in (repo_root / folder).rglob("*.py")]
    found = {p.relative_to(repo_root).as_posix() for p in sources if ".splitlines(" in p.read_text(encoding="utf-8")}
    assert found <= ALLOWED
