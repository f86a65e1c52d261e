"""The tools that score predictions and check submissions."""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np
import pytest
import torch

from ctvlm.evaluation import save_dump
from ctvlm.evaluation.submissions import write_classification
from ctvlm.text.finding_labels import CT_RATE_LABELS


@pytest.fixture
def run(repo_root, tmp_path, monkeypatch, capsys):
    """Run a tool in this process, because its imports take seconds; returns exit code, stdout and stderr."""

    def run(tool, *args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [tool, *args])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(repo_root / "tools" / "analysis_tools" / tool), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return run


def test_eval_predictions_without_config(run, tmp_path):
    rng = np.random.default_rng(0)
    cases = []
    for number in range(12):
        image = torch.tensor(rng.normal(size=4))
        case = dict(case_id=f"c{number}", patient_id=f"p{number // 2}", impression=f"Text {number}.")
        case |= dict(pred_volume=image, pred_impression=image, labels={"Emphysema": number % 2, "Atelectasis": None})
        case["pred_probabilities"] = {"Emphysema": number / 12, "Atelectasis": 0.5}
        cases.append(case)
    save_dump(tmp_path / "dump.pt", cases, remark="a remark on these scores")
    code, out, _ = run("eval_predictions.py", "dump.pt", "--bootstrap", "5", "--out", "scores.json")
    assert code == 0
    assert "retrieval/t2i_R@10" in out and "a remark on these scores" in out
    assert " to " in out  # intervals
    metrics = json.loads((tmp_path / "scores.json").read_text())["metrics"]
    assert metrics["retrieval/num_cases"] == 12
    assert metrics["classification_vlm3d/auroc"] == pytest.approx(21 / 36)
    assert metrics["classification_ctvlm/f1"] is None  # no thresholds from a dev split
    assert "region_text/accuracy" not in metrics
    assert any("pred_regions" in line and "region_text" in line for line in out.splitlines())


def test_eval_predictions_with_config_and_missing_keys(run, tmp_path):
    image = torch.eye(4)
    cases = [
        dict(
            case_id=f"c{n}", patient_id=f"p{n}", impression=f"Text {n}.", pred_volume=image[n], pred_impression=image[n]
        )
        for n in range(4)
    ]
    save_dump(tmp_path / "dump.pt", cases)
    metrics = [dict(type="RetrievalMetric", topk=(1,)), dict(type="StepTextMetric")]
    (tmp_path / "config.py").write_text(f"default_scope = 'ctvlm'\ntest_evaluator = {metrics}\n")
    code, out, err = run("eval_predictions.py", "dump.pt", "--config", "config.py", "--out", "scores.json")
    assert code == 0, err
    assert json.loads((tmp_path / "scores.json").read_text())["metrics"]["retrieval/t2i_R@1"] == 1
    assert "pred_patches" in out and "step_text" in out
    (tmp_path / "config.py").write_text(f"default_scope = 'ctvlm'\ntest_evaluator = {metrics[1:]}\n")
    code, _, err = run("eval_predictions.py", "dump.pt", "--config", "config.py")
    assert code == 2
    assert "pred_patches" in err and "dump.pt" in err


def test_eval_predictions_rejects_other_files(run, tmp_path):
    (tmp_path / "dump.pt").write_bytes(b"x")
    code, _, err = run("eval_predictions.py", "dump.pt")
    assert code == 2
    assert "dump.pt" in err and "Traceback" not in err


def test_check_submission(run, tmp_path):
    values = dict.fromkeys(CT_RATE_LABELS, 0.5)
    write_classification(tmp_path / "s.json", {"a": values, "b": values})
    (tmp_path / "cases.txt").write_text("a.mha\nb.mha\n")
    code, out, _ = run("check_submission.py", "vlm3d-classification", "s.json", "--cases", "cases.txt")
    assert code == 0
    assert "0 errors, 0 warnings" in out
    assert "cases.txt" not in out
    (tmp_path / "cases.txt").write_text("a.mha\nb.mha\nc.mha\n")
    code, out, _ = run("check_submission.py", "vlm3d-classification", "s.json", "--cases", "cases.txt")
    assert code == 1
    assert "c: missing" in out and "1 errors" in out
