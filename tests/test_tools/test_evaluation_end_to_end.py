"""Train a small model, test it with all metrics and score the dump again; probe and fine-tune it."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from ctvlm.evaluation import load_dump

CONFIG, FULL = "configs/vit3d_cot_contrastive.py", "configs/evaluation/phantom_full.py"
SMALL = [
    *(f"{split}_dataloader.dataset.shape=(8,32,32)" for split in ("train", "val", "test")),
    *(f"{split}_dataloader.dataset.num_cases=8" for split in ("train", "val", "test")),
    *(f"{split}_dataloader.batch_size=4" for split in ("train", "val", "test")),
    *("model.backbone.depth=2", "model.backbone.embed_dims=48", "model.text_encoder.depth=1"),
    *("train_cfg.max_epochs=1", "train_cfg.val_interval=1"),
]


@pytest.fixture
def trained(tool, tmp_path):
    ended = tool("train.py", CONFIG, "--work-dir", tmp_path / "train", "--cfg-options", *SMALL)
    assert ended.code == 0, ended.err
    return tmp_path / "train" / "epoch_1.pth"


@pytest.mark.slow
def test_all_metrics_and_a_dump_with_the_same_scores(tool, trained, tmp_path):
    dump, again = tmp_path / "out" / "predictions.pt", tmp_path / "again.json"
    args = ("--work-dir", tmp_path / "test", "--bootstrap", 10, "--out", dump, "--cfg-options", *SMALL)
    tested = tool("test.py", FULL, trained, *args)
    assert tested.code == 0, tested.err
    assert "interval" in tested.out and str(dump) in tested.out
    first = json.loads((tmp_path / "test" / "test_results.json").read_text())["metrics"]
    prefixes = {name.partition("/")[0] for name in first}
    expected = {
        "retrieval",
        "region_text",
        "region_retrieval",
        "step_text",
        "step_attention",
        "localisation",
        "location",
        "location_volume",
        "opposite_text",
        "embedding",
    }
    zero_shot = ("ctvlm", "ct_clip", "roc_corner", "spectre", "radfinder", "fvlm", "hlip", "hlip_grid", "vlm3d")
    protocols = {f"zero_shot_{name}" for name in zero_shot} | {"slice_localisation"}
    published = ("ct_clip", "spectre", "radfinder")
    protocols |= {f"{kind}_{name}" for kind in ("retrieval", "image_retrieval") for name in published}
    protocols |= {f"pool_retrieval_{name}" for name in ("spectre", "radfinder", "merlin")}
    assert prefixes == expected | protocols | {"dump"}
    for name in ("localisation/peak_distance_mm", "step_attention/slice_error_mm", "zero_shot_ctvlm/f1"):
        assert first[name] is not None, name
    with open(tmp_path / "test" / "test_results.csv", newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    row = rows["step_attention/auroc"]
    assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
    assert int(row["n"]) > 0

    thresholds = tmp_path / "test" / "thresholds_zero_shot_ctvlm.json"
    args = ("--bootstrap", 10, "--thresholds", thresholds, "--out", again)
    scored = tool("analysis_tools/eval_predictions.py", dump, "--config", FULL, *args)
    assert scored.code == 0, scored.err
    second = json.loads(again.read_text())["metrics"]
    del first["dump/num_cases"]
    assert second == first
    # Without a config: all metrics whose data the dump contains.
    scored = tool(
        "analysis_tools/eval_predictions.py", dump, "--bootstrap", 10, "--thresholds", thresholds, "--out", again
    )
    third = json.loads(again.read_text())["metrics"]
    # The default metrics do not include R@50 of the protocol ctvlm, nor location questions, which need findings.
    assert set(first) - set(third) == {
        name for name in first if (name.startswith("retrieval/") and "@50" in name) or name.startswith("location")
    }
    # Rounding errors differ, because the findings have another order.
    assert third == pytest.approx({name: value for name, value in first.items() if name in third}, abs=1e-9)

    # The dump contains the logit scale of the model.
    state = torch.load(trained, weights_only=True)["state_dict"]
    assert load_dump(dump)["scale"] == pytest.approx(
        state["objectives.volume.criterion.logit_scale.log_scale"].exp().item()
    )


@pytest.mark.slow
def test_probe_and_fine_tune(tool, trained, tmp_path):
    probed = tool(
        "analysis_tools/linear_probe.py",
        CONFIG,
        trained,
        "--work-dir",
        tmp_path,
        "--bootstrap",
        5,
        "--cfg-options",
        *SMALL,
    )
    assert probed.code == 0, probed.err
    results = json.loads((tmp_path / "linear_probe.json").read_text())
    assert results["metrics"]["linear_probe/num_cases"] == 8
    assert any(name.endswith("/auroc") and value is not None for name, value in results["metrics"].items())
    assert results["strengths"]

    options = [*SMALL, f"load_from={trained}", "train_cfg.max_epochs=2"]
    tuned = tool(
        "train.py", "configs/finetune_classification.py", "--work-dir", tmp_path / "tuned", "--cfg-options", *options
    )
    assert tuned.code == 0, tuned.err
    assert "classification/auroc" in tuned.out
    before = torch.load(trained, weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "tuned" / "epoch_2.pth", weights_only=True)["state_dict"]
    moved = {
        name: not torch.equal(after[name], before[name])
        for name in before
        if before[name].is_floating_point() and name in after
    }
    assert any(moved[name] for name in moved if name.startswith("backbone.blocks"))
    assert not any(
        moved[name] for name in moved if name.startswith(("text_", "space.volume_projection", "space.text_projection"))
    )
    checkpoint = tmp_path / "tuned" / "epoch_2.pth"
    tested = tool(
        "test.py",
        "configs/finetune_classification.py",
        checkpoint,
        "--work-dir",
        tmp_path / "t",
        "--cfg-options",
        *SMALL,
    )
    assert tested.code == 0, tested.err
    metrics = json.loads((tmp_path / "t" / "test_results.json").read_text())["metrics"]
    assert metrics["classification/accuracy"] is not None  # with thresholds of the validation data
    assert not list((tmp_path / "t").glob("*.pth"))
