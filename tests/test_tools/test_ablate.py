"""ablate.py: each run is trained once, interrupted calls resume, failed runs are reported, the table is correct."""

from __future__ import annotations

import csv
import json
import os
import runpy
import sys
import time
from pathlib import Path

import pytest

from ctvlm.engine import load_config
from ctvlm.evaluation.functional.over_seeds import mean_interval
from ctvlm.experiments.run_scheduler import train_all
from ctvlm.experiments.seed_runs import SeedRun
from ctvlm.experiments.seed_table import markdown, notes, summarise
from ctvlm.experiments.training_process import threads_per_process

TOOL = "analysis_tools/ablate.py"
ROOT = Path(__file__).resolve().parents[2]
# Replaces tools/train.py, which takes seconds to start.
FAKE = """
import json, os, pathlib, sys, time
config, _, folder, _, seed = sys.argv[1:]
folder, name = pathlib.Path(folder), pathlib.Path(config).stem
with open(folder.parents[1] / "trained.txt", "a") as file:
    file.write(f"{name} {seed} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\\n")
if name == "broken":
    print("loading\\nerror: no such thing\\n(--debug shows the traceback)")
    sys.exit(2)
if name == "slow":
    time.sleep(600)
value = {"full": 0.8, "less": 0.5}[name] + 0.01 * int(seed) + (0.001 * int(seed) if name == "less" else 0)
scalars = folder / "stamp" / "vis_data"
scalars.mkdir(parents=True)
scalars.joinpath("scalars.json").write_text("".join(
    json.dumps({"loss": i, "loss_volume": 2 * i, "step": i}) + "\\n" for i in range(8)))
folder.joinpath("results.json").write_text(json.dumps({"metrics": {"region_text/accuracy": value, "other": None}}))
"""


@pytest.fixture
def configs(tmp_path):
    """Writes small configs with the given names."""

    def make(*names):
        paths = []
        for name in names:
            path = tmp_path / f"{name}.py"
            path.write_text(f"_base_ = ['{ROOT.as_posix()}/tests/test_engine/toy_config.py']\nmodel = dict(width=4)\n")
            paths.append(path)
        return paths

    return make


@pytest.fixture
def ablate(tool, tmp_path, monkeypatch):
    """Runs the tool with a fake training script; returns its outcome and the runs that were trained."""
    fake = tmp_path / "fake_train.py"
    fake.write_text(FAKE)
    run_path = runpy.run_path

    def with_fake(path, **kwargs):
        names = run_path(path, **kwargs)
        names["train_command"].__globals__["TRAIN"] = fake
        return names

    monkeypatch.setattr(runpy, "run_path", with_fake)

    def run(*args):
        trained = tmp_path / "work" / "trained.txt"
        trained.unlink(missing_ok=True)
        outcome = tool(TOOL, *args, "--work-dir", tmp_path / "work")
        lines = trained.read_text().splitlines() if trained.exists() else []
        return outcome, sorted(tuple(line.split()[:2]) for line in lines)

    return run


def test_trains_each_run_once_and_writes_the_table(ablate, configs, tmp_path):
    outcome, trained = ablate(*configs("less", "full"), "--seeds", 0, 1, 2, "--jobs", 2)
    assert outcome.code == 0, outcome.err
    assert trained == [(name, seed) for name in ("full", "less") for seed in "012"]
    table = json.loads((tmp_path / "work" / "table.json").read_text())
    assert list(table["rows"]) == ["full", "less"]
    accuracy = table["rows"]["less"]["metrics"]["region_text/accuracy"]
    assert accuracy["mean"] == pytest.approx(0.511)
    assert accuracy["half_width"] == pytest.approx(mean_interval([0.5, 0.511, 0.522])[1])
    assert accuracy["difference"] == pytest.approx(-0.299)
    assert accuracy["difference_half_width"] == pytest.approx(mean_interval([-0.3, -0.299, -0.298])[1])
    loss = table["rows"]["full"]["metrics"]["train/loss_volume"]
    assert loss["mean"] == pytest.approx(2 * (3 + 4 + 5 + 6 + 7) / 5)
    assert "-0.299 ± 0.002 *" in outcome.out
    with open(tmp_path / "work" / "table.csv", newline="") as file:
        rows = {(row["config"], row["metric"]): row for row in csv.DictReader(file)}
    assert float(rows["less", "region_text/accuracy"]["difference"]) == pytest.approx(-0.299)
    assert "| less | 0.511 ± 0.027<br>Δ -0.299 ± 0.002 * |" in (tmp_path / "work" / "table.md").read_text()


@pytest.mark.parametrize("threads", ["3", None])
def test_number_of_threads_is_that_of_the_user(ablate, configs, tmp_path, monkeypatch, threads):
    if threads is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    ablate(*configs("full"), "--seeds", 0, "--jobs", 1)
    used = (tmp_path / "work" / "trained.txt").read_text().split()[3]
    assert used == (threads or str(threads_per_process(1)))


def test_second_call_trains_only_missing_and_changed_runs(ablate, configs, tmp_path):
    paths = configs("full", "less")
    ablate(*paths, "--seeds", 0, 1)
    (tmp_path / "work/results/less_seed1.json").unlink()
    (tmp_path / "work/results/full_seed0.json").write_text("{")
    assert ablate(*paths, "--seeds", 0, 1)[1] == [("full", "0"), ("less", "1")]
    assert ablate(*paths, "--seeds", 0, 1)[1] == []
    paths[0].write_text(paths[0].read_text().replace("width=4", "width=5"))
    assert ablate(*paths, "--seeds", 0, 1, "--table-only")[1] == []
    assert ablate(*paths, "--seeds", 0, 1)[1] == [("full", "0"), ("full", "1")]
    assert ablate(*paths, "--seeds", 0, "--epochs", 2)[1] == [("full", "0"), ("less", "0")]


def test_failed_run_is_reported_and_repeated(ablate, configs):
    for _ in range(2):
        outcome, trained = ablate(*configs("full", "broken"), "--seeds", 3)
        assert ("broken", "3") in trained
        assert outcome.code == 1
        assert all(fact in outcome.out for fact in ("broken", "seed 3", "exit code 2", "no such thing"))


def test_epochs_option_sets_schedule_and_validation(ablate, configs, tmp_path):
    ablate(*configs("full"), "--seeds", 0, "--epochs", 2, "--cfg-options", "train_dataloader.batch_size=4")
    cfg = load_config(tmp_path / "work/configs/full.py")
    assert cfg.train_cfg.max_epochs == cfg.train_cfg.val_interval == cfg.param_scheduler[0].T_max == 2
    assert cfg.train_dataloader.batch_size == 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.py"], "nowhere.py"),
        (["{0}", "{0}"], "['full']"),
        (["{0}", "--cfg-options", "modle.x=1"], "'model'"),
        (["{0}", "--jobs", "0"], "--jobs is 0"),
    ],
)
def test_configuration_errors_are_reported_before_training(ablate, configs, args, message):
    path = configs("full")[0]
    outcome, trained = ablate(*[arg.format(path) for arg in args])
    assert outcome.code == 2 and message in outcome.err and not trained


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_closing_the_scheduler_stops_the_runs(configs, tmp_path):
    fake = tmp_path / "fake_train.py"
    fake.write_text(FAKE)

    def command(run):
        return [sys.executable, *map(str, (fake, run.config, "--work-dir", run.folder, "--seed", run.seed))]

    runs = [SeedRun("slow", seed, configs("slow")[0], "", tmp_path / "work") for seed in (0, 1)]
    runs.append(SeedRun("full", 0, configs("full")[0], "", tmp_path / "work"))
    finished = train_all([runs[2], *runs[:2]], command, 3)
    assert next(finished) == (runs[2], None)
    trained = tmp_path / "work" / "trained.txt"
    while trained.read_text().count("slow") < 2:
        time.sleep(0.05)
    pids = [int(line.split()[2]) for line in trained.read_text().splitlines()]
    finished.close()
    assert not any(map(alive, pids))


def test_another_number_of_steps_than_the_reference_is_noted():
    """Accuracies over different sets of regions are not comparable."""
    metrics = {"region_text/accuracy": 0.9, "region_text/num_steps": 100}
    full = dict(config="full", seed=0, seconds=60, metrics=metrics)
    hard = {**full, "config": "hard", "metrics": {**metrics, "region_text/num_steps": 60}}
    summary = summarise([full, hard], ["full", "hard", "none"], "full", {})
    (note,) = notes(summary)
    assert note.startswith("hard:") and " 60 " in note and " 100" in note
    assert "| none |  |" in markdown(summary)


@pytest.mark.slow
def test_real_training_with_shared_phantoms(shell, tmp_path):
    """Two configs for one epoch: the phantoms are generated once, and no checkpoint is written."""
    options = ["--epochs", "1", "--cases", "16", "--val-cases", "12", "--seeds", "0", "--jobs", "2"]
    configs = ["configs/ablations/full.py", "configs/ablations/global_only.py"]
    done = shell(sys.executable, "tools/analysis_tools/ablate.py", *configs, *options, "--work-dir", tmp_path)
    assert done.code == 0, done.out + done.err
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    for name in ("full", "global_only"):
        assert {"region_text/accuracy", "step_attention/pointing", "retrieval/t2i_R@1", "train/loss_volume"} <= set(
            rows[name]["metrics"]
        )
    assert len(list(tmp_path.rglob("*.npz"))) == 16 + 12 and not list(tmp_path.rglob("*.pth"))
