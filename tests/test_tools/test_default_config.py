"""Training and test of the default config with a small model and few cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

CONFIG = "configs/vit3d_cot_contrastive.py"
SHAPE = "dataset.shape=(8,32,32)"
SMALL = [
    *(f"{split}_dataloader.{SHAPE}" for split in ("train", "val", "test")),
    *("train_dataloader.dataset.num_cases=6", "train_dataloader.batch_size=3"),
    *(f"{split}_dataloader.{key}=4" for split in ("val", "test") for key in ("dataset.num_cases", "batch_size")),
    *("model.backbone.depth=2", "model.backbone.embed_dims=48", "model.text_encoder.depth=1"),
    *("train_cfg.max_epochs=2", "train_cfg.val_interval=2", "default_hooks.checkpoint.max_keep_ckpts=2"),
]


@pytest.fixture
def train(tool, tmp_path):
    def run(folder, *args, options=(), config=CONFIG):
        outcome = tool("train.py", config, "--work-dir", tmp_path / folder, *args, "--cfg-options", *SMALL, *options)
        assert outcome.code == 0, outcome.err
        return outcome, json.loads((tmp_path / folder / "results.json").read_text())["metrics"]

    return run


def test_training_resuming_and_testing(train, tool, tmp_path):
    outcome, whole = train("whole")
    for part in ("epoch 2/2", "loss", "eta", "retrieval/t2i_R@1", "region_text/accuracy", "epoch_2.pth"):
        assert part in outcome.out
    # An interrupted run has only the checkpoint of its last complete epoch, and its config with sorted keys.
    dumped = tmp_path / "whole" / Path(CONFIG).name
    resumed, metrics = train("resumed", "--resume", tmp_path / "whole" / "epoch_1.pth", config=dumped)
    assert "epoch 1, step 2" in resumed.out
    assert metrics == whole
    first, second = (
        torch.load(tmp_path / folder / "epoch_2.pth", weights_only=True)["state_dict"]
        for folder in ("whole", "resumed")
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)

    out = tmp_path / "val.json"
    as_validated = ["test_dataloader.dataset.split=val"]
    checkpoint = tmp_path / "whole" / "epoch_2.pth"
    args = ("--work-dir", tmp_path / "test", "--out", out, "--cfg-options", *SMALL, *as_validated)
    tested = tool("test.py", CONFIG, checkpoint, *args)
    assert tested.code == 0, tested.err
    found = json.loads(out.read_text())["metrics"]
    # A test has more metrics, whose texts are encoded together with the others and change their padding.
    for name, value in whole.items():
        assert found[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), name


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train_dataloader.dataset.shape=(8,30,32)", "(8, 30, 32)"),
        ("model.backbone.num_regions=12", "12"),
        ("model.backbone.type=CrossModalContrastiveLoss", "'CrossModalContrastiveLoss'"),
        ("model.backbone.block.attention.type=SliceAwareAttn", "SliceAwareAttention"),
    ],
)
def test_errors_are_reported_in_one_message(tool, tmp_path, option, message):
    outcome = tool("train.py", CONFIG, "--work-dir", tmp_path / "run", "--cfg-options", *SMALL, option)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("error:") == 1
    assert "Traceback" not in outcome.out + outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_mixed_precision_on_two_processes(shell, train, tmp_path):
    options = [*SMALL, "train_dataloader.batch_size=2"]
    outcome = shell(
        "tools/dist_train.sh", CONFIG, 2, "--amp", "--work-dir", tmp_path / "two", "--cfg-options", *options
    )
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "two" / "results.json").read_text())["metrics"]["retrieval/num_cases"] == 4
