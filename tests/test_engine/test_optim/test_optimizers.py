"""A sharded optimizer steps as a whole one; accumulation is refused where it would be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ctvlm.engine import ConfigError, CTVLMRunner, ShardedOptimizer
from ctvlm.engine.optim.optimizers import refuse_accumulation
from ctvlm.registry import LOSSES
from tests.ranks import on_ranks

SHARDED = {"type": "ShardedOptimizer", "optimizer_type": "AdamW", "lr": 1e-2, "weight_decay": 0.05}


def run(cfg_text: str, folder: str, **overrides) -> None:
    cfg = Config.fromstring(cfg_text, file_format=".py")
    cfg.work_dir = folder
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in overrides.items()})
    CTVLMRunner.from_cfg(cfg).train()


def train_thrice(rank: int, world_size: int, cfg_text: str, folder: str) -> None:
    sharded = {"optim_wrapper__optimizer": {**SHARDED, "_delete_": True}}
    run(cfg_text, f"{folder}/plain", experiment_name="plain")
    run(cfg_text, f"{folder}/sharded", experiment_name="sharded", **sharded)
    resume = {"load_from": f"{folder}/sharded/epoch_1.pth", "resume": True}
    run(cfg_text, f"{folder}/resumed", experiment_name="resumed", **sharded, **resume)


def read(folder: Path, epoch: int = 2) -> dict:
    return torch.load(folder / f"epoch_{epoch}.pth", weights_only=True)


def test_sharded_state_trains_saves_and_resumes_as_a_whole_one(toy_config, tmp_path):
    """On two ranks weights and moments end equal; the checkpoint is complete and goes on in one process."""
    cfg = toy_config(train_cfg__max_epochs=2, launcher="pytorch", optim_wrapper__clip_grad={"max_norm": 0.5})
    cfg.optim_wrapper.optimizer.weight_decay = 0.05
    cfg.optim_wrapper.paramwise_cfg = {"bias_decay_mult": 0.0}  # several parameter groups
    on_ranks(train_thrice, 2, cfg.pretty_text, str(tmp_path))

    plain = read(tmp_path / "plain")
    for folder in ("sharded", "resumed"):
        found = read(tmp_path / folder)
        torch.testing.assert_close(found["state_dict"], plain["state_dict"], rtol=0, atol=1e-6)
        assert set(found["optimizer"]["state"]) == set(plain["optimizer"]["state"])
        for index, moments in plain["optimizer"]["state"].items():
            torch.testing.assert_close(found["optimizer"]["state"][index], moments, rtol=0, atol=1e-6)

    alone = {"launcher": "none", "train_cfg__max_epochs": 3, "optim_wrapper__optimizer": SHARDED | {"_delete_": True}}
    alone |= {"load_from": str(tmp_path / "sharded" / "epoch_2.pth"), "resume": True}
    run(cfg.pretty_text, str(tmp_path / "alone"), experiment_name="alone", **alone)
    assert read(tmp_path / "alone", 3)["optimizer"]["state"]


def test_one_process_gets_the_optimizer_itself():
    parameter = torch.nn.Parameter(torch.ones(2))
    assert type(ShardedOptimizer([parameter], "AdamW", lr=0.1)) is torch.optim.AdamW
    with pytest.raises(ConfigError, match="optimizer_type is 'Adm', which torch.optim does not have"):
        ShardedOptimizer([parameter], "Adm")


def test_accumulation_is_refused_for_a_contrastive_model(toy_config):
    cfg = toy_config(optim_wrapper__accumulative_counts=4, train_cfg__max_epochs=1)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.model.loss = LOSSES.build(dict(type="CrossModalContrastiveLoss"))
    with pytest.raises(ConfigError, match=r"train_dataloader\.batch_size=32 and model\.chunk_size=8 instead"):
        runner.train()


def test_accumulation_is_right_for_a_loss_that_is_a_mean_over_cases(toy_config):
    runner = CTVLMRunner.from_cfg(toy_config(optim_wrapper__accumulative_counts=2, train_cfg__max_epochs=1))
    before = [parameter.clone() for parameter in runner.model.parameters()]
    runner.train()
    assert runner.iter == len(runner.train_dataloader)
    assert not all(torch.equal(a, b) for a, b in zip(before, runner.model.parameters()))
    refuse_accumulation(torch.nn.Identity(), {}, None)
