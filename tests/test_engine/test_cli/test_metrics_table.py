import csv
import json

import pytest

from ctvlm.engine.cli.metrics_table import MetricRow, data_origin, metric_rows, write_metrics

METRICS = {
    "a/R@1": 0.25,
    "a/R@1_low": 0.1,
    "a/R@1_high": 0.4,
    "a/R@1_chance": 0.01,
    "a/num_cases": 100,
    "b/accuracy": float("nan"),
    "b/chance": 0.5,
    "b/score_low": 3.0,  # not an interval: there is no upper bound
    "b/num_steps": 7,
    "b/num_cases": 2,
}


def test_rows_contain_interval_chance_and_count():
    rows = metric_rows(METRICS)
    assert [row.metric for row in rows] == ["a/R@1", "b/accuracy", "b/score_low"]
    assert rows[0] == MetricRow("a/R@1", 0.25, 0.1, 0.4, 0.01, 100)
    assert (rows[1].chance, rows[1].n) == (0.5, "7 steps, 2 cases")


def test_rows_contain_protocol_threshold_rule_and_count():
    metrics = {
        "z/auroc": 0.7,
        "z/f1": 0.5,
        "z/Emphysema/f1": 0.4,
        "z/Emphysema/num_cases": 8,
        "z/Atelectasis/f1": 0.4,
        "z/num_cases": 9,
        "z/protocol": "ct_clip",
        "z/threshold_rule": "> grid_corner on test",
        "a/dice": 0.1,
        "a/num_findings": 3,
    }
    rows = {row.metric: (row.protocol, row.threshold_rule, row.n) for row in metric_rows(metrics)}
    assert rows == {
        "z/auroc": ("ct_clip", None, 9),
        "z/f1": ("ct_clip", "> grid_corner on test", 9),
        "z/Emphysema/f1": ("ct_clip", "> grid_corner on test", 8),
        "z/Atelectasis/f1": ("ct_clip", "> grid_corner on test", 9),
        "a/dice": ("ctvlm", None, 3),
    }


def test_data_origin_of_a_dump():
    cases = [dict(labels_source="b.csv", evaluation_set="nohead"), dict(labels_source="a.csv"), {}]
    assert data_origin(cases) == {"evaluation_set": "nohead", "labels_source": "a.csv, b.csv"}
    assert data_origin([{}]) == {}


def test_json_and_csv_have_the_same_content(tmp_path):
    write_metrics(tmp_path / "m.json", METRICS, checkpoint="x.pth")
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["checkpoint"] == "x.pth"
    assert content["metrics"]["b/accuracy"] is None
    assert content["n"] == {"a/R@1": 100, "b/accuracy": "7 steps, 2 cases", "b/score_low": "7 steps, 2 cases"}
    write_metrics(tmp_path / "m.csv", METRICS, checkpoint="x.pth", labels_source="fixed.csv")
    with open(tmp_path / "m.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = {"value": "0.25", "low": "0.1", "high": "0.4", "chance": "0.01", "n": "100", "protocol": "ctvlm"}
    assert rows[0] == {"metric": "a/R@1", **expected, "threshold_rule": "", "labels_source": "fixed.csv"}
    assert rows[1]["value"] == rows[1]["low"] == ""
    with pytest.raises(ValueError, match=r"m\.txt"):
        write_metrics(tmp_path / "m.txt", METRICS)
