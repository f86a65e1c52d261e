from __future__ import annotations

import logging
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from ctvlm.engine import CheckpointError, CTVLMRunner, NonFiniteError, NonFiniteHook
from ctvlm.registry import MODELS
from tests.ranks import on_ranks
from tests.test_engine.toy import ToyModel

TOY = Path(__file__).parents[1] / "toy_config.py"


@MODELS.register_module(force=True)
class NaNModel(ToyModel):
    """Steps (counted from 1) whose loss is NaN, or whose gradient is infinite although the loss is finite."""

    def __init__(self, nan_steps=(), inf_gradient_steps=(), on_rank=None, **kwargs):
        super().__init__(**kwargs)
        self.nan_steps, self.inf_gradient_steps, self.on_rank = set(nan_steps), set(inf_gradient_steps), on_rank

    def forward(self, inputs, data_samples=None, mode="tensor"):
        losses = super().forward(inputs, data_samples, mode)
        here = self.on_rank is None or self.on_rank == torch.distributed.get_rank()
        if mode == "loss" and here and self.steps in self.nan_steps:
            losses["loss_square"] = losses["loss_square"] * math.nan
        if mode == "loss" and here and self.steps in self.inf_gradient_steps:
            losses["loss_square"] = (
                losses["loss_square"]
                + 0 * self.net[0].weight.flatten()[0].sub(self.net[0].weight.flatten()[0].detach()).abs().sqrt()
            )
        return losses


def train(cfg) -> CTVLMRunner:
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    return runner


def weights(cfg, epoch=4):
    return torch.load(Path(cfg.work_dir) / f"epoch_{epoch}.pth", weights_only=True)["state_dict"]


@pytest.mark.parametrize("kind", ["nan_steps", "inf_gradient_steps"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_changes_nothing(toy_config, kind, accumulate):
    options = dict(model__type="NaNModel", optim_wrapper__accumulative_counts=accumulate)
    cfg = toy_config(train_cfg__max_epochs=2, **{f"model__{kind}": [4]}, **options)
    runner = train(cfg)
    assert runner.message_hub.get_info("skipped_steps") == 1
    assert all(value.isfinite().all() for value in weights(cfg, 2).values())
    moments = torch.load(Path(cfg.work_dir) / "epoch_2.pth", weights_only=True)["optimizer"]["state"]
    steps = 6 // accumulate
    assert {int(state["step"]) for state in moments.values()} == {steps - 1}
    log = next(Path(cfg.work_dir).glob("*/*.log")).read_text()
    assert "step 4 skipped" in log
    assert "loss: nan" not in log.replace("loss_square: nan", "") or accumulate == 2


def test_the_first_step_can_be_skipped(toy_config):
    assert train(toy_config(model__type="NaNModel", model__nan_steps=[1], train_cfg__max_epochs=1)).iter == 3


def test_training_stops_after_steps_in_a_row_and_keeps_its_checkpoints(toy_config):
    cfg = toy_config(
        model__type="NaNModel", model__nan_steps=[2, *range(8, 99)], default_hooks__non_finite__max_consecutive=3
    )
    with pytest.raises(NonFiniteError, match=r"3 steps in a row \(the last: step 10\)"):
        train(cfg)
    found = {path.name for path in Path(cfg.work_dir).glob("epoch_*.pth")}
    assert found == {"epoch_2.pth", "epoch_3.pth"}
    assert all(value.isfinite().all() for value in weights(cfg, 3).values())


def test_the_policy_is_on_without_a_line_in_the_config_and_can_be_turned_off(toy_config):
    cfg = toy_config()
    del cfg.default_hooks["non_finite"]
    assert any(isinstance(hook, NonFiniteHook) for hook in CTVLMRunner.from_cfg(cfg).hooks)
    cfg = toy_config("off")
    cfg.default_hooks["non_finite"] = None
    assert not any(isinstance(hook, NonFiniteHook) for hook in CTVLMRunner.from_cfg(cfg).hooks)


def test_weights_that_are_not_finite_are_not_saved(toy_config):
    cfg = toy_config(model__type="NaNModel", model__nan_steps=[5])
    cfg.default_hooks["non_finite"] = None
    with pytest.raises(CheckpointError, match=r"net\.0\.weight"):
        train(cfg)
    assert [path.name for path in Path(cfg.work_dir).glob("epoch_*.pth")] == ["epoch_1.pth"]
    assert (Path(cfg.work_dir) / "last_checkpoint").read_text() == "epoch_1.pth"


def test_cases_are_named(toy_config, caplog):
    hook = NonFiniteHook()
    with pytest.raises(ValueError, match="max_consecutive"):
        NonFiniteHook(0)
    runner = CTVLMRunner.from_cfg(toy_config())
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    hook.before_train(runner)
    for value, cases in ((math.nan, ["a\x1b[1m", "b"]), (1.0, ["c"])):
        samples = [dict(case_id=case) for case in cases]
        hook.before_train_iter(runner, 0, dict(inputs=[], data_samples=samples))
        parameter = next(runner.model.parameters())
        runner.optim_wrapper.update_params(parameter.sum() * value)
        with caplog.at_level(logging.WARNING):
            hook.after_train_iter(runner, 0, None, {})
    assert hook._batches == []
    assert runner.message_hub.get_info("skipped_steps") == 1
    text = next(Path(runner.work_dir).glob("*/*.log")).read_text()
    assert "a\\x1b[1m, b" in text and ", c" not in text


def test_training_stops_when_a_loss_scaler_finds_no_scale(toy_config):
    runner, hook = CTVLMRunner.from_cfg(toy_config()), NonFiniteHook()
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    hook.before_train(runner)
    parameter = next(runner.model.parameters())
    for scale in (1.0, 1e-5):
        runner.optim_wrapper.loss_scaler = SimpleNamespace(get_scale=lambda scale=scale: scale)
        hook.before_train_iter(runner, 0, {})
        runner.optim_wrapper.update_params(parameter.sum())
        if scale == 1.0:
            hook.after_train_iter(runner, 0, None, {})
    with pytest.raises(NonFiniteError, match="loss scale has fallen below 0.0001 at step 1"):
        hook.after_train_iter(runner, 0, None, {})


def _two_ranks(rank, world_size, folder, kind):
    cfg = Config.fromfile(str(TOY))
    cfg.work_dir, cfg.launcher = folder, "pytorch"
    cfg.merge_from_dict({"model.type": "NaNModel", f"model.{kind}": [2], "model.on_rank": 1, "train_cfg.max_epochs": 1})
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    state = runner.model.module.state_dict()
    return runner.message_hub.get_info("skipped_steps"), [value.double().sum().item() for value in state.values()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nan_steps", "inf_gradient_steps"])
def test_all_ranks_skip_the_same_steps(tmp_path, kind):
    first, second = on_ranks(_two_ranks, 2, str(tmp_path / "run"), kind)
    assert first == second and first[0] == 1
