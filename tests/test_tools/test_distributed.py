from __future__ import annotations

import json
import time

import pytest

TOY = "tests/test_engine/toy_config.py"


def test_two_processes_on_the_cpu(shell, tmp_path):
    """Trains, reports once, and all ranks' validation cases are counted."""
    options = ["train_cfg.max_epochs=2", "model.unused=True", "find_unused_parameters=True"]
    ended = shell("tools/dist_train.sh", TOY, 2, "--work-dir", tmp_path / "run", "--cfg-options", *options)
    assert ended.code == 0, ended.err
    assert "6 steps on 2 processes" not in ended.out and "4 steps on 2 processes" in ended.out
    assert ended.out.count("epoch 2/2  validation: toy/error") == 1
    assert "Traceback" not in ended.err
    assert json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]["toy/num_cases"] == 12


@pytest.mark.slow
def test_test_on_two_processes_gives_the_numbers_of_one(shell, tool, tmp_path):
    assert tool("train.py", TOY, "--work-dir", tmp_path / "run").code == 0
    checkpoint = tmp_path / "run" / "epoch_4.pth"
    outs = [tmp_path / "one.json", tmp_path / "two.json"]
    assert tool("test.py", TOY, checkpoint, "--work-dir", tmp_path / "a", "--out", outs[0]).code == 0
    ended = shell("tools/dist_test.sh", TOY, checkpoint, 2, "--work-dir", tmp_path / "b", "--out", outs[1])
    assert ended.code == 0, ended.err
    one, two = (json.loads(path.read_text())["metrics"] for path in outs)
    assert one == pytest.approx(two)


@pytest.mark.slow
def test_a_rank_that_fails_alone_does_not_hang_the_others(shell, tmp_path):
    """The other rank waits for gradients that never come, and is ended."""
    start = time.monotonic()
    ended = shell("tools/dist_train.sh", TOY, 2, "--work-dir", tmp_path, "--cfg-options", "model.crash_on_rank=1")
    assert ended.code != 0
    assert "RuntimeError: this rank alone fails" in ended.err
    assert "process 1 ended with exit code 1, and with it the others" in ended.err
    assert time.monotonic() - start < 300


def test_a_mistake_is_told_once(shell, tmp_path):
    ended = shell("tools/dist_train.sh", "nowhere.py", 2, "--work-dir", tmp_path / "run")
    assert ended.code == 2
    assert ended.err.count("error: config not found: nowhere.py") == 1
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("args", [[], ["config.py"], ["config.py", "two"], ["0"]])
def test_number_of_processes_is_asked_for(shell, args):
    ended = shell("tools/dist_train.sh", *args)
    assert ended.code == 2
    assert "expected the number of processes" in ended.err


def test_a_lone_number_takes_the_default_config(shell):
    ended = shell("tools/dist_train.sh", 3, "--seed", 1, PYTHON="echo")
    runner, processes, script, config, *rest = ended.out.split()
    assert (runner, processes, script) == ("tools/dist_run.py", "3", "tools/train.py")
    assert config.endswith("configs/vit3d_cot_contrastive.py") and rest == ["--seed", "1"]


@pytest.mark.slow
def test_the_default_config_in_chunks_on_two_processes(shell, tmp_path):
    """Trains with cached gradients in bfloat16 and validates 7 cases on 2 processes, each counted once."""
    options = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1", "model.chunk_size=3"]
    options += ["train_dataloader.batch_size=4", "train_dataloader.dataset.num_cases=16"]
    options += ["val_dataloader.dataset.num_cases=7", "val_dataloader.batch_size=2", "param_scheduler.1.end=1"]
    ended = shell("tools/dist_train.sh", 2, "--amp", "--work-dir", tmp_path, "--cfg-options", *options)
    assert ended.code == 0, ended.err
    assert "2 steps on 2 processes" in ended.out
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    counts = {value for key, value in metrics.items() if key.startswith("retrieval/num_")}
    assert 7 in counts, metrics
