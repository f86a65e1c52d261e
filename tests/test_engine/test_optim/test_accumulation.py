"""Gradient accumulation is an error for a model that compares the cases of a batch."""

from __future__ import annotations

import pytest
import torch

from ctvlm.engine import ConfigError, CTVLMRunner
from ctvlm.engine.optim.accumulation import refuse_accumulation
from ctvlm.registry import LOSSES


def test_accumulation_with_a_contrastive_loss_is_an_error(toy_config):
    cfg = toy_config(optim_wrapper__accumulative_counts=4, train_cfg__max_epochs=1)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.model.loss = LOSSES.build(dict(type="CrossModalContrastiveLoss"))
    with pytest.raises(ConfigError, match=r"batch_size=32 .*chunk_size=8"):
        runner.train()


def test_accumulation_with_a_mean_over_cases(toy_config):
    runner = CTVLMRunner.from_cfg(toy_config(optim_wrapper__accumulative_counts=2, train_cfg__max_epochs=1))
    before = [parameter.clone() for parameter in runner.model.parameters()]
    runner.train()
    assert runner.iter == len(runner.train_dataloader)
    assert not all(torch.equal(a, b) for a, b in zip(before, runner.model.parameters()))
    refuse_accumulation(torch.nn.Identity(), {}, None)
