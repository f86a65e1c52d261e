"""Weights of the objectives."""

import math

import pytest
import torch

from ctvlm.models.losses import MultiTaskLoss

NAMES = ["loss_volume", "loss_region", "loss_step"]


def losses(*values):
    return {name: torch.tensor(value, requires_grad=True) for name, value in zip(NAMES, values, strict=True)}


def test_fixed_weights():
    weighted = MultiTaskLoss(NAMES, weights=dict(loss_region=0.5))(losses(2.0, 3.0, 5.0))
    assert {name: value.item() for name, value in weighted.items()} == dict(
        loss_volume=2.0, loss_region=1.5, loss_step=5.0
    )
    assert not list(MultiTaskLoss(NAMES).parameters())


def test_learned_weights_equal_naive_loop():
    module = MultiTaskLoss(NAMES, weights=dict(loss_step=0.25), learned=True)
    with torch.no_grad():
        module.log_variance["loss_region"].fill_(0.7)
    variance = dict(loss_volume=1.0, loss_region=math.exp(0.7), loss_step=4.0)
    found = module(losses(2.0, 3.0, 5.0))
    for name, value in zip(NAMES, (2.0, 3.0, 5.0), strict=True):
        assert found[name].item() == pytest.approx(value / variance[name] + math.log(math.sqrt(variance[name])))


def test_learned_variance_settles_at_twice_the_loss():
    """Where the gradient of ``exp(-s) L + s / 2`` vanishes: a task with a large loss counts less."""
    module = MultiTaskLoss(NAMES, learned=True)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        sum(module(losses(0.5, 2.0, 8.0)).values()).backward()
        optimizer.step()
    found = {name: s.exp().item() for name, s in module.log_variance.items()}
    assert found == pytest.approx(dict(loss_volume=1.0, loss_region=4.0, loss_step=16.0), rel=1e-2)


@pytest.mark.parametrize("learned", [False, True])
def test_losses_must_be_those_named(learned):
    module = MultiTaskLoss(NAMES, learned=learned)
    with pytest.raises(ValueError, match="loss_focus"):
        module(losses(1.0, 1.0, 1.0) | dict(loss_focus=torch.ones(())))
    with pytest.raises(ValueError, match="loss_step"):
        module({name: torch.ones(()) for name in NAMES[:2]})


def test_weights_are_checked():
    with pytest.raises(ValueError, match="loss_regoin"):
        MultiTaskLoss(NAMES, weights=dict(loss_regoin=1.0))
    with pytest.raises(ValueError, match="positive"):
        MultiTaskLoss(NAMES, weights=dict(loss_region=0.0), learned=True)
