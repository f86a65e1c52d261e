"""Resume a run that was killed by SIGKILL."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

TOY = "tests/test_engine/toy_config.py"


@pytest.mark.slow
def test_killed_and_resumed_run_equals_an_uninterrupted_run(tool, repo_root, tmp_path):
    assert tool("train.py", TOY, "--work-dir", tmp_path / "whole").code == 0
    command = [sys.executable, "tools/train.py", TOY, "--work-dir", tmp_path / "killed"]
    # It waits in the third of four epochs until it is killed.
    command += ["--cfg-options", "model.hold_at=8", f"model.hold_file={tmp_path / 'never'}"]
    process = subprocess.Popen(command, cwd=repo_root, stdout=subprocess.DEVNULL, env=dict(os.environ))
    deadline = time.monotonic() + 900
    while not (tmp_path / "killed" / "epoch_2.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed" / "epoch_4.pth").exists()

    resumed = tool("train.py", TOY, "--work-dir", tmp_path / "killed", "--resume")
    assert "resumed after epoch" in resumed.out
    results = [(tmp_path / folder / "results.json").read_text() for folder in ("whole", "killed")]
    assert results[0] == results[1]
    first, second = (
        torch.load(tmp_path / folder / "epoch_4.pth", weights_only=True)["state_dict"] for folder in ("whole", "killed")
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)
