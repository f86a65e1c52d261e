"""A sharded optimizer gives the same steps and checkpoints as an unsharded one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ctvlm.engine import ConfigError, CTVLMRunner, ShardedOptimizer
from tests.ranks import on_ranks

SHARDED = {"type": "ShardedOptimizer", "optimizer_type": "AdamW", "lr": 1e-2, "weight_decay": 0.05}


def run(cfg_text: str, folder: str, **overrides) -> None:
    cfg = Config.fromstring(cfg_text, file_format=".py")
    cfg.work_dir = folder
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in overrides.items()})
    CTVLMRunner.from_cfg(cfg).train()


def train_three_times(rank: int, world_size: int, cfg_text: str, folder: str) -> None:
    sharded = {"optim_wrapper__optimizer": {**SHARDED, "_delete_": True}}
    run(cfg_text, f"{folder}/plain")
    run(cfg_text, f"{folder}/sharded", **sharded)
    resume = {"load_from": f"{folder}/sharded/epoch_1.pth", "resume": True}
    run(cfg_text, f"{folder}/resumed", **sharded, **resume)


def read(folder: Path, epoch: int = 2) -> dict:
    return torch.load(folder / f"epoch_{epoch}.pth", weights_only=True)


def test_sharded_training_equals_unsharded_training(toy_config, tmp_path):
    """Weights and moments are equal on two ranks, and one process can resume from the checkpoint."""
    cfg = toy_config(train_cfg__max_epochs=2, launcher="pytorch", optim_wrapper__clip_grad={"max_norm": 0.5})
    cfg.optim_wrapper.optimizer.weight_decay = 0.05
    cfg.optim_wrapper.paramwise_cfg = {"bias_decay_mult": 0.0}  # several parameter groups
    on_ranks(train_three_times, 2, cfg.pretty_text, str(tmp_path))

    plain = read(tmp_path / "plain")
    for folder in ("sharded", "resumed"):
        checkpoint = read(tmp_path / folder)
        torch.testing.assert_close(checkpoint["state_dict"], plain["state_dict"], rtol=0, atol=1e-6)
        assert set(checkpoint["optimizer"]["state"]) == set(plain["optimizer"]["state"])
        for index, moments in plain["optimizer"]["state"].items():
            torch.testing.assert_close(checkpoint["optimizer"]["state"][index], moments, rtol=0, atol=1e-6)

    single = {"launcher": "none", "train_cfg__max_epochs": 3, "optim_wrapper__optimizer": SHARDED | {"_delete_": True}}
    single |= {"load_from": str(tmp_path / "sharded" / "epoch_2.pth"), "resume": True}
    run(cfg.pretty_text, str(tmp_path / "single"), **single)
    assert read(tmp_path / "single", 3)["optimizer"]["state"]


def test_one_process_uses_the_unsharded_optimizer():
    parameter = torch.nn.Parameter(torch.ones(2))
    assert type(ShardedOptimizer([parameter], "AdamW", lr=0.1)) is torch.optim.AdamW
    with pytest.raises(ConfigError, match="ShardedOptimizer.optimizer_type.*'Adm'"):
        ShardedOptimizer([parameter], "Adm")
