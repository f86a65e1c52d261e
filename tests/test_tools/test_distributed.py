from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

TOY = "tests/test_engine/toy_config.py"


def test_two_processes_on_the_cpu(shell, tmp_path):
    """The metrics are printed once and count the validation cases of all ranks."""
    options = ["train_cfg.max_epochs=2", "model.unused=True", "find_unused_parameters=True"]
    outcome = shell("tools/dist_train.sh", TOY, 2, "--work-dir", tmp_path / "run", "--cfg-options", *options)
    assert outcome.code == 0, outcome.err
    assert " 4 steps on 2 processes" in outcome.out
    assert outcome.out.count("epoch 2/2  validation: toy/error") == 1
    assert "Traceback" not in outcome.err
    assert json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]["toy/num_cases"] == 12


@pytest.mark.slow
def test_testing_on_two_processes_equals_one_process(shell, tool, tmp_path):
    assert tool("train.py", TOY, "--work-dir", tmp_path / "run").code == 0
    checkpoint = tmp_path / "run" / "epoch_4.pth"
    outs = [tmp_path / "one.json", tmp_path / "two.json"]
    assert tool("test.py", TOY, checkpoint, "--work-dir", tmp_path / "a", "--out", outs[0]).code == 0
    outcome = shell("tools/dist_test.sh", TOY, checkpoint, 2, "--work-dir", tmp_path / "b", "--out", outs[1])
    assert outcome.code == 0, outcome.err
    one, two = (json.loads(path.read_text())["metrics"] for path in outs)
    assert one == pytest.approx(two)


@pytest.mark.slow
def test_failure_of_one_rank_stops_the_others(shell, tmp_path):
    """The other rank waits for gradients and must be stopped."""
    start = time.monotonic()
    outcome = shell("tools/dist_train.sh", TOY, 2, "--work-dir", tmp_path, "--cfg-options", "model.crash_on_rank=1")
    assert outcome.code != 0
    assert "RuntimeError: this rank fails" in outcome.err
    assert outcome.err.count("Traceback") == 1
    assert "process 1 failed with exit code 1" in outcome.err
    assert time.monotonic() - start < 1200


@pytest.mark.slow
def test_a_hanging_rank_ends_the_run(shell, tmp_path):
    options = ["model.hang_on_rank=1", "env_cfg.dist_cfg.timeout=5"]
    start = time.monotonic()
    outcome = shell("tools/dist_train.sh", TOY, 2, "--work-dir", tmp_path, "--cfg-options", *options)
    assert outcome.code == 2
    assert "another process did not answer in time" in outcome.err and "env_cfg.dist_cfg.timeout" in outcome.err
    assert "Traceback" not in outcome.err
    assert time.monotonic() - start < 1200


def test_port_of_another_run(shell, tmp_path):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = str(other.getsockname()[1])
        rank = dict(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        train = (sys.executable, "tools/train.py", TOY, "--launcher", "pytorch", "--work-dir", tmp_path / "run")
        outcome = shell(*train, **rank)
    assert outcome.code == 2
    assert f"port {port} of rank 0 is in use" in outcome.err and "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sender", ["launcher", "rank"])
def test_a_signal_stops_all_ranks_after_the_same_step(repo_root, shell, tmp_path, sender):
    """The resumed run equals an uninterrupted one. ``rank``: only one rank receives the signal."""
    train = ["tools/dist_train.sh", TOY, "2", "--resume", "--work-dir"]
    assert shell(*train, tmp_path / "whole").code == 0
    # Both ranks wait in the second of four epochs until one has received the signal.
    options = ["--cfg-options", "model.hold_at=4", f"model.hold_file={tmp_path / 'signalled'}"]
    variables = {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*train, str(tmp_path / "run"), *options],
        cwd=repo_root,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 900
    while not (tmp_path / "run" / "epoch_1.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = process.pid
    if sender == "rank":
        listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
        pid = int(listed.stdout.split()[1])
    os.kill(pid, signal.SIGUSR1)
    err = process.communicate(timeout=300)[1]
    assert process.returncode == 138, err
    assert err.count("interrupted by SIGUSR1 after step") == 1 and "Traceback" not in err
    assert "continue with --resume" in err
    outcome = shell(*train, tmp_path / "run")
    assert outcome.code == 0 and "resumed after epoch" in outcome.out
    first, second = (tmp_path / name for name in ("whole", "run"))
    results = [json.loads((folder / "results.json").read_text()) for folder in (first, second)]
    for one in results:
        del one["ctvlm"]  # the git commit, which can change during the test
    assert results[0] == results[1]
    names = [sorted(path.name for path in folder.glob("*.pth")) for folder in (first, second)]
    assert names[0] == names[1]
    states = [torch.load(folder / "epoch_4.pth", weights_only=True)["state_dict"] for folder in (first, second)]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_error_of_all_ranks_is_printed_once(shell, tmp_path):
    outcome = shell("tools/dist_train.sh", "nowhere.py", 2, "--work-dir", tmp_path / "run")
    assert outcome.code == 2
    assert outcome.err.count("nowhere.py") == 1
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("args", [[], ["config.py"], ["config.py", "two"], ["0"]])
def test_missing_number_of_processes(shell, args):
    outcome = shell("tools/dist_train.sh", *args)
    assert outcome.code == 2
    assert "number of processes" in outcome.err and "dist_train.sh" in outcome.err


def test_default_config_is_used_without_config(shell):
    outcome = shell("tools/dist_train.sh", 3, "--seed", 1, PYTHON="echo")
    runner, processes, script, config, *rest = outcome.out.split()
    assert (runner, processes, script) == ("tools/dist_run.py", "3", "tools/train.py")
    assert config.endswith("configs/vit3d_cot_contrastive.py") and rest == ["--seed", "1"]


@pytest.mark.slow
def test_gradient_caching_on_two_processes(shell, tmp_path):
    """Trains with gradient caching in bfloat16; each of 7 validation cases is counted once on 2 processes."""
    options = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1", "model.chunk_size=3"]
    options += ["train_dataloader.batch_size=4", "train_dataloader.dataset.num_cases=16"]
    options += ["val_dataloader.dataset.num_cases=7", "val_dataloader.batch_size=2", "param_scheduler.1.end=1"]
    outcome = shell("tools/dist_train.sh", 2, "--amp", "--work-dir", tmp_path, "--cfg-options", *options)
    assert outcome.code == 0, outcome.err
    assert "2 steps on 2 processes" in outcome.out
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    counts = {value for key, value in metrics.items() if key.startswith("retrieval/num_")}
    assert 7 in counts, metrics
