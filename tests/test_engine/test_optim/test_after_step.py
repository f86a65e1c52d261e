"""The logit scale is clamped after each optimizer step, with any optimizer wrapper."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from ctvlm.engine import BFloat16OptimWrapper, CTDistributedDataParallel, CTVLMRunner, ShardedOptimizer
from ctvlm.engine.optim.after_step import call_after_step
from ctvlm.models.losses import LogitScale
from tests.ranks import on_ranks
from tests.test_models.test_gradient_caching import SHARES, batch, build

START = 105.0  # 5% above the maximum
WRAPPERS = {
    "plain": (OptimWrapper, dict(clip_grad=dict(max_norm=1.0))),
    "bfloat16": (BFloat16OptimWrapper, {}),
}


def scales(model) -> dict[str, float]:
    return {n: float(m().detach()) for n, m in model.named_modules() if isinstance(m, LogitScale)}


def train(losses: str, wrapper: str, chunk_size: int | None, cases, wrap=lambda model: model, steps: int = 4) -> list:
    """Scale of each level after each step; the scales start at ``START``."""
    model = build(losses)
    model.chunk_size = chunk_size
    for module in model.modules():
        if isinstance(module, LogitScale):
            module.log_scale.data.fill_(math.log(START))
    kind, settings = WRAPPERS[wrapper]
    optim_wrapper = kind(ShardedOptimizer(model.parameters(), "AdamW", lr=1e-2, weight_decay=0.0), **settings)
    call_after_step(model, optim_wrapper)
    wrapped, history = wrap(model), []
    for _ in range(steps):
        with optim_wrapper.optim_context(wrapped):
            data = model.data_preprocessor(batch(cases), training=True)
            terms = wrapped(**data, mode="loss")
        optim_wrapper.update_params(sum(terms.values()))
        history.append(scales(model))
    return history


def assert_recovers(history: list) -> None:
    assert history[0]
    assert all(scale <= 100.0001 for step in history for scale in step.values())
    for level in history[0]:
        assert history[-1][level] < 99.5, level


@pytest.mark.parametrize(("losses", "levels"), [("nce", 3), ("sigmoid", 3)])
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_scale_above_the_maximum_decreases(losses, levels, wrapper, chunk_size):
    history = train(losses, wrapper, chunk_size, range(8))
    assert len(history[0]) == levels
    assert_recovers(history)


def train_on_rank(rank: int, world_size: int) -> dict:
    """Train with DDP and a sharded optimizer."""
    return {
        (losses, chunk_size): train(losses, "plain", chunk_size, SHARES[world_size][rank], CTDistributedDataParallel)
        for losses, chunk_size in (("nce", 3), ("sigmoid", None))
    }


def test_scales_are_equal_on_all_ranks():
    first, second = on_ranks(train_on_rank, 2)
    assert first == second
    for history in first.values():
        assert_recovers(history)


def test_sigmoid_bias_gets_a_gradient_at_the_maximum_scale():
    model = build("sigmoid")
    for module in model.modules():
        if isinstance(module, LogitScale):
            module.log_scale.data.fill_(math.log(100.0))
    sum(model(**model.data_preprocessor(batch(range(8))), mode="loss").values()).backward()
    for name in ("volume", "region", "step"):
        loss = model.objectives[name].criterion
        assert loss.logit_bias.grad.abs() > 0 and loss.logit_scale.log_scale.grad.abs() > 0


@pytest.mark.parametrize("wrapper", ["OptimWrapper", "BFloat16OptimWrapper"])
def test_runner_clamps_after_each_step(toy_config, wrapper):
    cfg = toy_config(train_cfg__max_epochs=1, optim_wrapper__type=wrapper)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.model.scale = LogitScale()
    runner.model.scale.log_scale.data.fill_(math.log(START))
    runner.train()
    assert float(runner.model.scale().detach()) == pytest.approx(100.0)


def test_scale_of_an_old_checkpoint_is_clamped_on_loading():
    scale = LogitScale()
    scale.load_state_dict({"log_scale": torch.tensor(math.log(START))})
    assert float(scale().detach()) == pytest.approx(100.0)
