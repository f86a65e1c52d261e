"""The output of a training can be a file on a full disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ctvlm.engine.cli.streams import outlive_full_streams


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_error(monkeypatch):
    full = open("/dev/full", "w")  # noqa: SIM115  closing it is an error
    monkeypatch.setattr(sys, "stdout", full)
    monkeypatch.setattr(sys, "stderr", full)
    outlive_full_streams()
    outlive_full_streams()
    print("text", flush=True)
    sys.stderr.writelines(["a\n", "b\n"])
    assert sys.stdout.fileno() == full.fileno() and not sys.stdout.isatty()
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_other_output_is_complete_and_other_errors_stay(monkeypatch, tmp_path):
    with open(tmp_path / "out.txt", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        outlive_full_streams()
        assert sys.stdout.write("text\n") == 5
    assert (tmp_path / "out.txt").read_text() == "text\n"
    with pytest.raises(ValueError, match="closed file"):
        print("more")
