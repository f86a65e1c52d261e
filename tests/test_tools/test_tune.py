"""tune.py: configuration errors end it before the first trial; a small search runs to its end."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time

import psutil
import pytest

from ctvlm.engine import load_config
from ctvlm.experiments.search import read_search

pytest.importorskip("optuna")

CONFIG = "configs/tune/phantom.py"
SMALL = [
    *(f"{split}_dataloader.dataset.shape=(8,32,32)" for split in ("train", "val", "test")),
    *(f"{split}_dataloader.dataset.num_cases=6" for split in ("train", "val", "test")),
    *("train_dataloader.batch_size=3", "model.backbone.depth=2", "model.backbone.embed_dims=24"),
    *("model.text_encoder.depth=1", "train_cfg.max_epochs=2", "train_cfg.val_interval=1"),
]


@pytest.fixture
def config(tmp_path, repo_root):
    def write(**changes):
        tune = {**load_config(repo_root / CONFIG).tune.to_dict(), **changes}
        path = tmp_path / "search.py"
        path.write_text(f"_base_ = [{str(repo_root / CONFIG)!r}]\ntune = dict(_delete_=True, **{tune!r})\n")
        return path

    return write


def test_search_space_of_the_config_is_valid(repo_root):
    assert len(read_search(load_config(repo_root / CONFIG)).space) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(metric="region_text/acuracy"), "'region_text/accuracy'"),
        (dict(space={"model.backbone.deph": [2, 3]}), "'depth'"),
        (dict(space={"model.backbone.block.num_heads": [2, 5]}), "model.backbone.block.num_heads=5"),
    ],
)
def test_config_errors_are_reported_before_the_first_trial(tool, config, tmp_path, changes, message):
    outcome = tool("tune.py", config(**changes), "--work-dir", tmp_path / "study")
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("error:") == 1 and "Traceback" not in outcome.err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("args", [["nowhere.py"], [CONFIG, "--workers", "0"], [CONFIG, "--cfg-options", "a"]])
def test_command_line_errors(tool, args, tmp_path):
    outcome = tool("tune.py", *args, "--work-dir", tmp_path / "study")
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_small_search(tool, tmp_path):
    args = (CONFIG, "--work-dir", tmp_path, "--trials", 2, "--workers", 2, "--cfg-options", *SMALL)
    outcome = tool("tune.py", *args)
    assert outcome.code == 0, outcome.err
    results = [json.loads((tmp_path / f"trial_000{n}" / "results.json").read_text())["metrics"] for n in (0, 1)]
    assert all(0 <= r["region_text/accuracy"] <= 1 for r in results)
    assert "2 complete" in outcome.out
    assert (tmp_path / "history.png").exists()
    command = shlex.split(outcome.out[outcome.out.index("python tools/train.py") :])
    assert command[:3] == ["python", "tools/train.py", CONFIG]
    best = max(r["region_text/accuracy"] for r in results)
    again = tool(*command[1:2][0].split("/")[-1:], *command[2:], "--work-dir", tmp_path / "again")
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "again" / "results.json").read_text())["metrics"]["region_text/accuracy"] == best


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_terminating_a_search_stops_its_training(tmp_path, repo_root, number):
    command = [sys.executable, "tools/tune.py", CONFIG, "--work-dir", tmp_path, "--cfg-options", *SMALL]
    search = subprocess.Popen(
        [*map(str, command), "train_cfg.max_epochs=1000"], cwd=repo_root, stdout=subprocess.DEVNULL
    )
    log = tmp_path / "trial_0000" / "train.log"
    for _ in range(1800):
        if log.exists() and "CoTContrastiveVLM with" in log.read_text():
            break
        time.sleep(0.5)
    training = psutil.Process(search.pid).children(recursive=True)
    assert training
    search.send_signal(number)
    assert search.wait(300) == (143 if number == signal.SIGTERM else -number)
    _, running = psutil.wait_procs(training, 300)  # the training finishes its step and saves a checkpoint
    assert not running
