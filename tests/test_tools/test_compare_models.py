"""The tool that compares models on the same cases."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from ctvlm.evaluation import save_dump
from ctvlm.evaluation.functional.published import published_figures
from tests.released import SHAPE, small_config
from tests.test_evaluation.metric_cases import random_dump

TOOL = "analysis_tools/compare_models.py"


def test_tool_has_the_values_of_eval_predictions_and_writes_all_files(tool, tmp_path):
    for name, noise in (("a", 0.0), ("b", 0.8)):
        save_dump(tmp_path / f"{name}.pt", **random_dump(noise))
    dumps = [tmp_path / "a.pt", tmp_path / "b.pt"]
    outcome = tool(TOOL, *dumps, "--protocols", "ctvlm", "radfinder", "--bootstrap", 5, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert (
        tool("analysis_tools/eval_predictions.py", dumps[1], "--bootstrap", 5, "--out", tmp_path / "b.json").code == 0
    )
    expected = json.loads((tmp_path / "b.json").read_text())["metrics"]
    with open(tmp_path / "out/table.csv", newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file) if row["model"] == "b"}
    assert {"retrieval_radfinder/t2i_R@10", "localisation/dice"} <= rows.keys()
    assert not any(key.startswith("retrieval_ct_clip") for key in rows)
    for key, row in rows.items():
        names = (("value", key), ("low", f"{key}_low"), ("high", f"{key}_high"))
        for column, name in names:
            value = expected.get(name)
            assert (float(row[column]) if row[column] else None) == (None if value is None else float(value)), name
    text = (tmp_path / "out/table.md").read_text()
    measured, published = text.split("## Published figures")
    assert "| b | " in measured and "CT-CLIP" not in measured and "Δ" in measured
    assert "| SPECTRE | CT-RATE | text to image R@100 | 0.599 |" in published and "1,564" in published
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert [model["name"] for model in table["models"]] == ["a", "b"] and table["reference"] == "a"
    assert table["models"][1]["metrics"]["retrieval/t2i_MRR"]["difference"]["low"] is not None
    assert (tmp_path / "out/metrics.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "out/published.csv").read_text().splitlines()) == len(published_figures()) + 1


def test_tool_refuses_in_one_message(tool, tmp_path):
    save_dump(tmp_path / "a.pt", **random_dump())
    save_dump(tmp_path / "b.pt", **random_dump(numbers=range(8)))
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    for arguments, named in (
        (["a.pt", "b.pt"], ["a has", "case_8, case_9"]),
        (["a.pt", "other.pt"], ["other.pt", "found another format"]),
        (["a.pt", "missing.pt"], ["missing.pt", "no such file"]),
        (["a.pt", "vit3d_phantom"], ["--data", "vit3d_phantom"]),
        (["a.pt", "--data", "cases.jsonl"], ["--data", "only dumps"]),
        (["a.pt", "--protocols", "ct_clap"], ["ct_clap", "ct_clip"]),
        (["a.pt", "--checkpoint", "x.pth"], ["--checkpoint", "expected 0"]),
    ):
        words = [tmp_path / word if word in ("a.pt", "b.pt", "other.pt", "missing.pt") else word for word in arguments]
        outcome = tool(TOOL, *words, "--out", tmp_path / "out", "--bootstrap", 2)
        message = " ".join(outcome.err.split())
        assert outcome.code == 2 and "Traceback" not in message, arguments
        assert all(text.replace("a has", "b has no") in message for text in named), message
        assert not (tmp_path / "out").exists()


def test_tool_runs_models_on_a_manifest(tool, released_model, tmp_path):
    written = tool("dataset_converters/write_phantom.py", tmp_path / "data", "--num-cases", 2, "--shape", *SHAPE)
    assert written.code == 0, written.err
    manifest = next((tmp_path / "data").glob("*.jsonl"))
    config = tmp_path / "random.py"
    small = small_config()
    small.dump(config)
    arguments = ("--data", manifest, "--split", "all", "--bootstrap", 5, "--device", "cpu", "--out", tmp_path / "out")
    outcome = tool(TOOL, released_model, config, *arguments)
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "out/table.md").read_text()
    assert "small (trained on phantoms only)" in text and "random (random weights)" in text
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert table["cases"] == 2 and table["models"][0]["cost"]["flops"] > 0
    assert tuple(table["models"][0]["cost"]["shape"]) == SHAPE
    # The written predictions give the same row, with the measured cost.
    again = tool(TOOL, tmp_path / "out/predictions/small.pt", "--bootstrap", 5, "--out", tmp_path / "again")
    assert again.code == 0, again.err
    row = json.loads((tmp_path / "again/table.json").read_text())["models"][0]
    assert row["metrics"] == table["models"][0]["metrics"] and row["cost"] == table["models"][0]["cost"]


@pytest.mark.slow
def test_config_as_data_equals_test_py(tool, released_model, tmp_path):
    cfg = small_config()
    cfg.test_dataloader.dataset.num_cases, cfg.test_dataloader.batch_size = 5, 2
    cfg.dump(tmp_path / "config.py")
    dump = tmp_path / "tested.pt"
    tested = tool("test.py", tmp_path / "config.py", released_model, "--out", dump, "--work-dir", tmp_path / "work")
    assert tested.code == 0, tested.err
    arguments = ("--data", tmp_path / "config.py", "--bootstrap", 5, "--device", "cpu", "--out", tmp_path / "out")
    outcome = tool(TOOL, released_model, dump, *arguments)
    assert outcome.code == 0, outcome.err
    model, file = json.loads((tmp_path / "out/table.json").read_text())["models"]
    assert {"retrieval/t2i_MRR", "step_attention/pointing"} <= file["metrics"].keys()
    for key, row in file["metrics"].items():
        assert row["value"] == pytest.approx(model["metrics"][key]["value"], abs=1e-6), key
    # test.py writes only what the metrics of its config read.
    assert "- tested: not scored" in (tmp_path / "out/table.md").read_text()
