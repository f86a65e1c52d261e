"""An interrupted conversion resumes and writes the same manifest, with any number of workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ctvlm.datasets import read_manifest
from ctvlm.datasets.conversion import open_cases
from ctvlm.datasets.conversion.summary import summary
from tests.test_datasets.converter_tools import TOOLS, tool

convert = tool("folder_to_manifest")
LESIONS = ("--lesions", "lesion*")


@pytest.fixture
def opened(monkeypatch):
    """Ids of the opened cases, and the patched function, whose ``stop`` is the number of cases before ctrl-C."""
    ids, original = [], open_cases.open_case

    def open_case(case, **kwargs):
        if len(ids) == open_case.stop:
            raise KeyboardInterrupt
        ids.append(case["case_id"])
        return original(case, **kwargs)

    open_case.stop = None
    monkeypatch.setattr(open_cases, "open_case", open_case)
    return ids, open_case


def test_interrupted_run_resumes(case_folder, opened, capsys):
    ids, control = opened
    whole, out = case_folder / "whole.jsonl", case_folder / "m.jsonl"
    assert convert(case_folder, whole, *LESIONS) == 0
    ids.clear()
    control.stop = 2
    assert convert(case_folder, out, *LESIONS) == 130
    assert not out.exists() and "m.jsonl.progress" in capsys.readouterr().out.replace("\n", "")
    journal = case_folder / "m.jsonl.progress"
    # A killed process can leave an incomplete last line.
    journal.write_text(journal.read_text() + '{"key": "ab')
    control.stop = None
    assert convert(case_folder, out, *LESIONS) == 0
    assert ids == ["p0", "p1", "p2"]
    assert out.read_text() == whole.read_text()
    assert not journal.exists()


def test_changed_file_is_opened_again(case_folder, opened):
    ids, control = opened
    out, broken = case_folder / "m.jsonl", case_folder / "p0" / "ct.nii.gz"
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    control.stop = 2
    assert convert(case_folder, out, *LESIONS) == 130
    broken.write_bytes(content)
    control.stop = 4
    assert convert(case_folder, out, *LESIONS) == 0
    assert ids == ["p0", "p1", "p0", "p2"]
    assert len(read_manifest(out)) == 3


@pytest.mark.slow
def test_killed_process_resumes_with_two_workers(case_folder):
    out, whole = case_folder / "m.jsonl", case_folder / "whole.jsonl"
    command = [sys.executable, TOOLS / "folder_to_manifest.py", case_folder]
    subprocess.run([*command, whole, *LESIONS], check=True)
    process = subprocess.Popen([*command, out, *LESIONS, "--workers", "2"], start_new_session=True)
    journal = case_folder / "m.jsonl.progress"
    while process.poll() is None and not journal.exists():
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, out, *LESIONS, "--workers", "2"], check=True)
    assert out.read_text() == whole.read_text()


def test_summary_of_many_cases_counts_reasons():
    kept = [dict(case_id=f"k{i}", patient_id=f"k{i}", split="train") for i in range(30)]
    dropped = [(f"d{i}", f"/a/b/{i}.nii.gz: found {i} voxels") for i in range(20)] + [("x", "other")]
    table = summary(kept, dropped, [(c["case_id"], []) for c in kept])
    assert table.row_count == 3
    assert list(table.columns[0].cells) == ["30", "20", "1"]
