from __future__ import annotations

import json
import time

import pytest

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
    assert "process 1 failed with exit code 1" in outcome.err
    assert time.monotonic() - start < 300


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
