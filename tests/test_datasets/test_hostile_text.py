"""Ids, paths and reports of a manifest with markup, escape sequences and line breaks reach no terminal as they are."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from ctvlm.cli.verify_manifest import verify_manifest
from ctvlm.datasets import read_manifest
from ctvlm.engine import run_tool
from ctvlm.volume import CTReadError

pytest.importorskip("blosc2", reason="the store needs Blosc2: pip install 'ctvlm[store]'")
HOSTILE = "[/] [red]x \x1b[31mred\x1b[0m \x1b]0;title\x07 \r\n\u202e\u2028\x9b2J"
ESCAPES = "\x1b\x07\r\u202e\u2028\x9b"


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).resolve().parents[2] / "tools" / "preprocess.py"
    spec = importlib.util.spec_from_file_location("preprocess_tool", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def manifest(case_folder):
    """Hostile text in every text of every case; the second CT is missing, the third is damaged."""
    cases = [json.loads(line) for line in (case_folder / "cases.jsonl").read_text().splitlines()]
    for number, case in enumerate(cases):
        case["case_id"] = case["patient_id"] = f"{HOSTILE} {number}"
        case["report"] = dict(findings=HOSTILE, impression=HOSTILE)
        case["cot"] = [dict(text=HOSTILE, regions=[HOSTILE], entities=[HOSTILE])]
        case["source"] = case["lesion_masks"][0]["name"] = HOSTILE
        case["labels"] = {HOSTILE: 1}
    cases[1]["volume"] = f"{HOSTILE}.nii.gz"
    (case_folder / "[bold]\x1b[32m.nii.gz").write_bytes(b"damaged")
    cases[2]["volume"] = "[bold]\x1b[32m.nii.gz"
    path = case_folder / f"m{HOSTILE.replace('/', '')}.jsonl"
    path.write_text("\n".join(map(json.dumps, cases)))
    return path


def assert_clean(capsys) -> str:
    printed = "".join(capsys.readouterr())
    assert printed and not set(ESCAPES) & set(printed)
    return printed


@pytest.mark.parametrize("columns", ["80", "160"])
def test_verify(manifest, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert verify_manifest(str(manifest)) == 1
    assert "[/]" in assert_clean(capsys)
    assert verify_manifest(str(manifest), as_json=True) == 1
    document = capsys.readouterr().out
    assert not set(ESCAPES) & set(document)
    assert {problem["case_id"] for problem in json.loads(document)["problems"]} == {f"{HOSTILE} {n}" for n in range(3)}


def test_preprocess(tool, manifest, tmp_path, capsys):
    out = tmp_path / f"store {HOSTILE.replace('/', '')}"
    assert run_tool(lambda: tool.main([str(manifest), str(out), "--shape", "8", "16", "16"])) == 1
    assert "[/]" in assert_clean(capsys)
    (case,) = read_manifest(out / "manifest.jsonl")
    assert case["case_id"] == f"{HOSTILE} 0" and case["report"]["findings"] == HOSTILE
    assert run_tool(lambda: tool.main([str(manifest), str(out), "--shape", "8", "16", "16", "--shard", "0/9"])) == 0
    assert_clean(capsys)


@pytest.mark.parametrize("change", ["case_id", "split", "volume", "report", "key", "labels"])
def test_errors_of_the_manifest(tool, manifest, tmp_path, capsys, change):
    cases = [json.loads(line) for line in manifest.read_text().split("\n")]
    cases[0] |= {
        "case_id": dict(case_id=cases[1]["case_id"]),
        "split": dict(split=HOSTILE, patient_id=cases[1]["patient_id"]),
        "volume": dict(volume=dict(path=HOSTILE, axes=HOSTILE)),
        "report": dict(report={HOSTILE: [HOSTILE]}),
        "key": {HOSTILE: 1},
        "labels": dict(labels={HOSTILE: HOSTILE}),
    }[change]
    manifest.write_text("\n".join(map(json.dumps, cases)))
    assert run_tool(lambda: tool.main([str(manifest), str(tmp_path / "store"), "--shape", "8", "16", "16"])) == 2
    printed = assert_clean(capsys)
    assert printed.count("\n") <= 3
    assert verify_manifest(str(manifest)) == 1
    assert_clean(capsys)


def test_warnings(capsys):
    import warnings

    from ctvlm.datasets.transforms.load_ct import MaskWarning
    from ctvlm.engine import quiet_warnings

    before = warnings.showwarning
    try:
        quiet_warnings()
        file = str(Path(sys.modules["ctvlm.datasets"].__file__))
        warnings.showwarning(MaskWarning(f"case {HOSTILE}"), MaskWarning, file, 1)
    finally:
        warnings.showwarning = before
    assert assert_clean(capsys).count("\n") == 1


def test_an_error_of_a_reader_is_one_line():
    error = CTReadError(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    assert "\n" not in str(error) and error.path == HOSTILE
