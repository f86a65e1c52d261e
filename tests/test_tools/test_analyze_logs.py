"""Curves and times from the logs of runs."""

from __future__ import annotations

import json

import pytest
from matplotlib.image import imread

from ctvlm.engine.run_log import read_run_log, train_times

TOOL = "analysis_tools/analyze_logs.py"


@pytest.fixture
def runs(tmp_path):
    """Two runs of 2 epochs with 3 iterations; the second one was resumed at iteration 4."""
    for name, offset in (("a", 0.0), ("b", 1.0)):
        rows = [
            dict(loss=3 - 0.1 * i + offset, loss_step=1.0, time=10.0 if i == 1 else 0.5 * (1 + (i > 3)), iter=i,
                 epoch=1 + (i > 3), step=i)
            for i in range(1, 7)
        ] + [{"retrieval/r1": 0.1, "step": 1}, {"retrieval/r1": 0.2, "step": 2}]  # fmt: skip
        if name == "b":
            rows.append({**rows[3], "loss": 9.0})
        folder = tmp_path / name / "20260101_000000" / "vis_data"
        folder.mkdir(parents=True)
        (folder / "scalars.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        test = tmp_path / name / "20260102_000000" / "vis_data"
        test.mkdir(parents=True)
        (test / "scalars.json").write_text('{"retrieval/r1": 0.3, "step": 0}\n')
    return tmp_path


def test_curves_of_the_training_run(runs):
    log = read_run_log(runs / "b")
    assert log.keys == ["loss", "loss_step", "time", "retrieval/r1"]
    x, y, label = log.curve("loss")
    assert x == [1, 2, 3, 4, 5, 6] and y[3] == 9.0 and label == "iteration"
    assert log.curve("retrieval/r1") == ([1, 2], [0.1, 0.2], "epoch")


def test_times_leave_out_the_start(runs):
    assert train_times(read_run_log(runs / "a")) == {1: 0.5, 2: 1.0}


def test_tool_writes_a_figure_and_prints_times(tool, runs, tmp_path):
    out = tmp_path / "new/curves.png"
    done = tool(TOOL, "plot_curve", runs / "a", runs / "b", "--keys", "loss", "retrieval/r1", "--legend", "a", "b",
                "--out", out, "--dpi", 50)  # fmt: skip
    assert done.code == 0, done.err
    assert imread(out).shape[:2] == (170, 460)
    done = tool(TOOL, "cal_train_time", runs / "a")
    assert "mean 0.7500 s/iter over 2 epochs" in done.out and "slowest epoch 2: 1.0000" in done.out


def test_invalid_input_is_one_line(tool, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("loss 1\n")
    for args, message in (
        (["plot_curve", runs / "a", "--keys", "los"], "did you mean loss?"),
        (["plot_curve", tmp_path / "none"], "none: no such file"),
        (["plot_curve", tmp_path / "empty"], "found no vis_data/scalars.json"),
        (["plot_curve", tmp_path / "bad.json"], "line 1"),
        (["plot_curve", runs / "a", "--legend", "a", "b"], "2 names for 1 runs"),
        (["plot_curve", runs / "a", "--out", "a.txt"], "a.txt"),
        (["cal_train_time", runs / "a" / "20260102_000000/vis_data/scalars.json"], "no 'time'"),
    ):
        done = tool(TOOL, *args)
        assert done.code == 2 and message in done.err, (args, done.err)
