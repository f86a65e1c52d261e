"""The documented way from CT files to a store to training, on small phantoms."""

from __future__ import annotations

import json
import shlex

import pytest

CONFIG = "configs/vit3d_cot_contrastive_store.py"
SMALL = [
    *("window=(16,64,64)", "model.backbone.img_size=(16,64,64)", "model.space.shared_dims=32"),
    "model.backbone.depth=2",
    *("model.backbone.embed_dims=48", "model.text_encoder.depth=1", "model.text_encoder.embed_dims=32"),
    *(f"{split}_dataloader.{key}" for split in ("train", "val", "test") for key in ("batch_size=2", "num_workers=0")),
    *("train_cfg.max_epochs=1", "param_scheduler.1.end=2"),
]


def documented_commands(config) -> dict[str, list[str]]:
    """Commands in the header of a config: tool → arguments."""
    lines = [line.lstrip("# ") for line in config.read_text(encoding="utf-8").split("\n") if line.startswith("#  ")]
    calls = [shlex.split(line) for line in lines if line.startswith("python tools/")]
    return {call[1].removeprefix("tools/"): call[2:] for call in calls}


@pytest.mark.slow
def test_preprocess_and_train(tool, repo_root, tmp_path):
    commands = documented_commands(repo_root / CONFIG)
    ct, store = tmp_path / "ct", tmp_path / "store"
    written = tool(
        "dataset_converters/write_phantom.py", ct, "--num-cases", 2, "--shape", 16, 64, 64, "--splits", "train", "val"
    )
    assert written.code == 0, written.err

    paths = {"data/ct/manifest.jsonl": ct / "manifest.jsonl", "data/store": store, "8": 1}
    stored = tool("preprocess.py", *(paths.get(word, word) for word in commands["preprocess.py"]))
    assert stored.code == 0, stored.err
    assert {line["split"] for line in map(json.loads, (store / "manifest.jsonl").open())} == {"train", "val"}

    arguments = [word for word in commands["train.py"] if word != "--amp"]  # bfloat16 needs an accelerator
    options = ["--cfg-options", f"ann_file={store / 'manifest.jsonl'}", *SMALL]
    trained = tool("train.py", *arguments, "--work-dir", tmp_path / "work", *options)
    assert trained.code == 0, trained.err
    assert (tmp_path / "work" / "epoch_1.pth").is_file()
    assert "retrieval/t2i_R@1" in json.loads((tmp_path / "work" / "results.json").read_text())["metrics"]
