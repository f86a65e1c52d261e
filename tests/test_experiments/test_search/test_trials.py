"""Studies whose trials are processes of about one second."""

from __future__ import annotations

import json
import re
import sys
import textwrap
import threading
import time

import pytest
from mmengine.config import Config

optuna = pytest.importorskip("optuna")

from ctvlm.engine import ConfigError  # noqa: E402
from ctvlm.experiments.search import (  # noqa: E402
    Range,
    Search,
    trials as running,
)
from ctvlm.experiments.search.report import best_trials, trials_table, write_plots  # noqa: E402
from ctvlm.experiments.search.trials import TrialError, Workers, open_study, read_validations  # noqa: E402

SEARCH = Search("m/score", "minimize", (Range("x", -2.0, 2.0), Range("n", 1, 3)))
# Writes the files of a training run: scalars during training, results at the end.
TRAIN = textwrap.dedent(
    """
    import json, pathlib, sys, time
    folder, values = pathlib.Path(sys.argv[1]), dict(pair.split("=") for pair in sys.argv[2:])
    score = float(values["x"]) ** 2
    (folder / "run" / "vis_data").mkdir(parents=True)
    (folder / "run" / "vis_data" / "scalars.json").write_text(json.dumps({"m/score": score, "step": 1}) + "\\n{")
    time.sleep(float(values.get("seconds", 0)))
    if values.get("fail"):
        sys.exit("error: no such thing")
    (folder / "results.json").write_text(json.dumps({"metrics": {"m/score": score if not values.get("nan") else None}}))
    """
)


def config(tmp_path, **tune):
    (tmp_path / "toy.py").touch()
    return Config(dict(tune=dict(metric="m/score", **tune)), filename=str(tmp_path / "toy.py"))


@pytest.fixture
def workers(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "POLL", 0.1)

    def make(trials, workers=1, extra=(), search=SEARCH, **tune):
        study = open_study(config(tmp_path, **tune), search, tmp_path / "study")

        def command(options, folder):
            return [sys.executable, "-c", TRAIN, str(folder), *options, *extra]

        return Workers(study, search, tmp_path / "study", command, trials, workers)

    return make


def states(study):
    return [trial.state.name for trial in study.trials]


def test_study_is_searched_resumed_and_reported(workers, tmp_path):
    first = workers(2)
    first.run()
    again = workers(5, workers=2)
    again.run()
    trials = again.study.trials
    assert states(again.study) == ["COMPLETE"] * 5
    assert len({trial.params["x"] for trial in trials}) == 5  # no trial was sampled twice
    for trial in trials:
        assert trial.value == pytest.approx(trial.params["x"] ** 2)
        assert (tmp_path / "study" / f"trial_{trial.number:04d}" / "results.json").exists()
    workers(5).run()
    assert len(again.study.trials) == 5
    best = best_trials(again.study)
    assert best[0].value == min(trial.value for trial in trials)
    table = trials_table(again.study, SEARCH)
    assert table.row_count == 5
    assert "toy" in table.title and "5 complete" in table.title


@pytest.mark.slow
def test_plots(tmp_path):
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", -2, 2) ** 2 + trial.suggest_int("n", 1, 3), n_trials=6)
    plots = list(write_plots(study, SEARCH, tmp_path))
    assert {path.name for path in plots} == {
        "history.png",
        "slice.png",
        "parallel_coordinate.png",
        "importances.png",
    }
    assert all(path.stat().st_size > 5_000 for path in plots)


def test_another_space_needs_another_folder(workers, tmp_path):
    workers(0)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "study"))):
        workers(0, space={"x": [1, 2]})


@pytest.mark.parametrize(("extra", "message"), [("fail=1", "no such thing"), ("nan=1", "m/score is None")])
def test_search_stops_if_all_trials_fail(workers, extra, message):
    failing = workers(10, extra=[extra])
    with pytest.raises(TrialError, match=f"^3 .*{message}"):
        failing.run()
    assert states(failing.study) == ["FAIL"] * 3
    assert list(write_plots(failing.study, SEARCH, failing.work_dir)) == []
    assert trials_table(failing.study, SEARCH).row_count == 0


def test_trial_of_a_killed_worker_is_repeated(workers, monkeypatch):
    monkeypatch.setattr(running, "HEARTBEAT", 1)
    monkeypatch.setattr(running, "GRACE", 2)
    search = workers(2)
    with pytest.warns(UserWarning, match="Heartbeat"):  # a worker that was killed after one heartbeat
        killed = search.study.ask()
    values = killed.suggest_float("x", -2, 2), killed.suggest_int("n", 1, 3)
    search.study._storage.record_heartbeat(killed._trial_id)
    search.run()
    assert states(search.study).count("COMPLETE") == 2
    assert states(search.study)[killed.number] == "FAIL"
    assert values in [(t.params["x"], t.params["n"]) for t in best_trials(search.study)]


def test_pruned_trial_and_its_process_are_stopped(workers):
    search = Search("m/score", "minimize", SEARCH.space, prune=True)
    slow = workers(1, extra=["seconds=600"], search=search)
    slow.study.pruner = optuna.pruners.ThresholdPruner(upper=-1)
    started = time.monotonic()
    slow.run()
    assert time.monotonic() - started < 300
    assert states(slow.study) == ["PRUNED"]
    assert slow.study.trials[0].intermediate_values == {1: pytest.approx(slow.study.trials[0].params["x"] ** 2)}


def test_stopping_the_search_stops_its_processes(workers, tmp_path):
    slow = workers(2, workers=2, extra=["seconds=600"])
    started = time.monotonic()

    def stop_when_both_train():
        while len(list(tmp_path.glob("study/*/run/vis_data/scalars.json"))) < 2 and time.monotonic() - started < 240:
            time.sleep(0.1)
        slow.stop.set()

    threading.Thread(target=stop_when_both_train).start()
    slow.run()
    assert time.monotonic() - started < 300
    assert states(slow.study) == ["FAIL"] * 2


def test_validations_are_read_from_an_incomplete_file(tmp_path):
    folder = tmp_path / "20260101" / "vis_data"
    folder.mkdir(parents=True)
    lines = [{"m/score": 0.5, "step": 2}, {"loss": 1.0, "step": 3}, {"m/score": float("nan"), "step": 4}]
    (folder / "scalars.json").write_text("\n".join(map(json.dumps, lines)) + '\n{"m/sc')
    assert read_validations(tmp_path, "m/score") == [(2, 0.5)]
    assert read_validations(tmp_path / "none", "m/score") == []
