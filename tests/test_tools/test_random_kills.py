"""Runs that are killed at random moments, also while they save and validate, end bit-identical."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import torch

TOY = "tests/test_engine/toy_config.py"
OPTIONS = ["train_dataloader.dataset.length=40", "default_hooks.checkpoint.by_epoch=False"]
OPTIONS += ["default_hooks.checkpoint.interval=1", "model.seconds=0.1"]
OPTIONS += ["param_scheduler.0.by_epoch=False", "param_scheduler.0.convert_to_iter_based=False"]
LOOPS = {
    "epoch": ["train_cfg.max_epochs=4"],
    "iter": ["train_cfg._delete_=True", "train_cfg.type=IterBasedTrainLoop", "train_cfg.max_iters=20"]
    + ["train_cfg.val_interval=3", "log_processor.by_epoch=False"],
}


def command(folder, loop, workers, ranks) -> list:
    options = [*OPTIONS, *LOOPS[loop], f"train_dataloader.num_workers={workers}"]
    start = [sys.executable, *(["tools/dist_run.py", ranks] if ranks > 1 else [])]
    return [*map(str, start), "tools/train.py", TOY, "--work-dir", str(folder), "--resume", "--cfg-options", *options]


def final(folder):
    (path,) = [path for path in folder.glob("iter_*.pth") if path.stem in ("iter_20", "iter_12")]
    content = torch.load(path, weights_only=True)
    return (content["state_dict"], content["optimizer"]["state"]), sorted(path.name for path in folder.glob("*"))


def wait_for_group(number: int) -> None:
    """Wait for the killed ranks, of which one has the lock of the folder, and for their data workers."""
    deadline = time.monotonic() + 120
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(number, 0)
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("loop", "workers", "ranks"), [(loop, workers, ranks) for loop in LOOPS for workers in (0, 2) for ranks in (1, 2)]
)
def test_killed_runs_end_bit_identical(repo_root, tmp_path, loop, workers, ranks):
    kills = int(os.environ.get("CTVLM_TEST_KILLS", "1"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start = time.monotonic()
    subprocess.run(command(whole, loop, workers, ranks), cwd=repo_root, check=True, capture_output=True, timeout=1800)
    seconds = time.monotonic() - start
    moments = random.Random(f"{loop} {workers} {ranks}")
    for _ in range(kills):
        process = subprocess.Popen(
            command(killed, loop, workers, ranks),
            cwd=repo_root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds * moments.uniform(0.5, 1.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for_group(process.pid)
    subprocess.run(command(killed, loop, workers, ranks), cwd=repo_root, check=True, capture_output=True, timeout=1800)
    (tensors, files), (expected, names) = final(killed), final(whole)
    torch.testing.assert_close(tensors, expected, rtol=0, atol=0)
    # Each start has its own log folder.
    assert [name for name in files if not name[0].isdigit()] == [name for name in names if not name[0].isdigit()]
