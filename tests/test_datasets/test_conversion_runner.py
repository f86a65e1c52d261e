"""A run that is stopped goes on where it was, and ends at the same manifest; workers change nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ctvlm.datasets import read_manifest
from ctvlm.datasets.conversion import runner
from tests.test_datasets.converter_tools import TOOLS, tool

convert = tool("folder_to_manifest")
LESIONS = ("--lesions", "lesion*")


@pytest.fixture
def opened(monkeypatch):
    """Ids of the cases that were really opened; ``stop`` after how many the user presses ctrl-C."""
    seen, true = [], runner.open_case

    def open_case(case, **kwargs):
        if len(seen) == open_case.stop:
            raise KeyboardInterrupt
        seen.append(case["case_id"])
        return true(case, **kwargs)

    open_case.stop = None
    monkeypatch.setattr(runner, "open_case", open_case)
    return seen, open_case


def test_a_stopped_run_goes_on(case_folder, opened, capsys):
    seen, control = opened
    whole, out = case_folder / "whole.jsonl", case_folder / "m.jsonl"
    assert convert(case_folder, whole, *LESIONS) == 0
    seen.clear()
    control.stop = 2
    assert convert(case_folder, out, *LESIONS) == 130
    assert not out.exists() and "goes on from" in capsys.readouterr().out
    journal = case_folder / "m.jsonl.progress"
    # A kill can tear the line that is being written.
    journal.write_text(journal.read_text() + '{"key": "ab')
    control.stop = None
    assert convert(case_folder, out, *LESIONS) == 0
    assert seen == ["p0", "p1", "p2"]
    assert out.read_text() == whole.read_text()
    assert not journal.exists()


def test_a_file_that_changed_and_other_options_are_opened_anew(case_folder, opened):
    seen, control = opened
    out, broken = case_folder / "m.jsonl", case_folder / "p0" / "ct.nii.gz"
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    control.stop = 2
    assert convert(case_folder, out, *LESIONS) == 130
    broken.write_bytes(content)
    control.stop = 4
    assert convert(case_folder, out, *LESIONS) == 0
    assert seen == ["p0", "p1", "p0", "p2"]
    assert len(read_manifest(out)) == 3


@pytest.mark.slow
def test_a_killed_process_goes_on_with_two_workers(case_folder):
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


def test_many_cases_are_counted_by_reason():
    kept = [dict(case_id=f"k{i}", patient_id=f"k{i}", split="train") for i in range(30)]
    dropped = [(f"d{i}", f"/a/b/{i}.nii.gz: found {i} voxels") for i in range(20)] + [("x", "other")]
    table = runner.summary(kept, dropped, [(c["case_id"], []) for c in kept])
    assert table.row_count == 3
    assert list(table.columns[0].cells) == ["30", "20", "1"]
