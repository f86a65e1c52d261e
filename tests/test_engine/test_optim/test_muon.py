"""Muon for weight matrices, AdamW for other parameters, with one state."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.testing import assert_close

from ctvlm.engine import ConfigError, MuonAdamW
from ctvlm.engine.optim.muon import orthogonalize


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope("ctvlm"):
        yield


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.names = nn.Parameter(torch.randn(20, 32))
        self.words = nn.Embedding(40, 32)
        self.wide = nn.Linear(32, 64)
        self.again = nn.Linear(64, 32)
        self.narrow = nn.Linear(64, 16)
        self.score = nn.Linear(16, 1)

    def forward(self) -> torch.Tensor:
        x = self.words.weight[:20] + self.names
        x = torch.relu(self.wide(torch.relu(self.again(torch.relu(self.wide(x))))))
        return self.score(torch.relu(self.narrow(x))).square().mean()


def build(model: nn.Module, paramwise_cfg: dict | None = None, **settings) -> MuonAdamW:
    optimizer = dict(type="MuonAdamW", lr=1e-2, weight_decay=0.1, **settings)
    cfg = dict(
        type="OptimWrapper",
        constructor="MuonConstructor",
        optimizer=optimizer,
        **({"paramwise_cfg": paramwise_cfg} if paramwise_cfg else {}),
    )
    return build_optim_wrapper(model, cfg).optimizer


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """The published iteration, for one matrix."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


@pytest.mark.parametrize("shape", [(32, 32), (16, 100), (100, 16)])
def test_orthogonalize_keeps_singular_vectors(shape):
    u, s, v = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    given = u * torch.linspace(0.05, 7.0, len(s)) @ v
    matrix = orthogonalize(given[None])[0]
    assert_close(u.T @ matrix @ v.T, torch.diag(torch.diag(u.T @ matrix @ v.T)), atol=1e-10, rtol=0)
    values = torch.linalg.svdvals(matrix)
    assert values.min() > 0.3 and values.max() < 1.3
    assert_close(matrix, newton_schulz(given), atol=1e-10, rtol=0)
    assert orthogonalize(torch.zeros(1, *shape)).abs().max() == 0


@pytest.mark.parametrize("shape", [(32, 32), (16, 100), (100, 16)])
def test_matrices_of_a_stack_do_not_depend_on_each_other(shape):
    stack = torch.randn(3, *shape) * torch.tensor([1e-6, 1.0, 1e3])[:, None, None]
    for matrix, alone in zip(orthogonalize(stack), stack):
        assert_close(matrix, newton_schulz(alone), atol=1e-4, rtol=0)


def test_only_weights_of_linear_layers_are_matrices():
    model = Net()
    for paramwise in (None, dict(bias_decay_mult=0.0)):
        groups = build(model, paramwise).param_groups
        marked = {id(p) for group in groups if group["matrix"] for p in group["params"]}
        assert marked == {id(model.wide.weight), id(model.again.weight), id(model.narrow.weight)}
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_steps_equal_a_naive_muon_and_adamw():
    model = Net().double()
    twin = copy.deepcopy(model)
    muon = build(model, momentum=0.9, matrix_lr=3.0, eps=1e-6)
    adamw = torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    mean = dict.fromkeys(("wide.weight", "again.weight", "narrow.weight"), 0.0)
    for _ in range(3):
        model().backward()  # both optimizers use the same gradients
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for p, q in zip(model.parameters(), twin.parameters()):
            q.grad = p.grad.clone()
        muon.step()
        adamw.step()
        for (name, p), q in zip(model.named_parameters(), twin.parameters()):
            if name in mean:
                mean[name] = 0.9 * mean[name] + p.grad
                size = 1e-2 * 3.0 * (2**0.5 if name == "wide.weight" else 1.0)
                q.data = before[name] * (1 - 1e-2 * 0.1) - size * newton_schulz(p.grad + 0.9 * mean[name])
            assert_close(p, q, atol=1e-12, rtol=0)
        model.zero_grad()


def test_resumed_optimizer_continues_equally():
    model = Net()
    muon = build(model)

    def train(net: nn.Module, optimizer: MuonAdamW) -> None:
        for _ in range(2):
            optimizer.zero_grad()
            net().backward()
            optimizer.step()

    train(model, muon)
    other = copy.deepcopy(model)
    resumed = build(other)
    resumed.load_state_dict(copy.deepcopy(muon.state_dict()))
    train(model, muon)
    train(other, resumed)
    for p, q in zip(model.parameters(), other.parameters()):
        assert torch.equal(p, q)


def test_without_the_constructor_is_an_error():
    with pytest.raises(ConfigError, match="MuonConstructor"):
        MuonAdamW(Net().parameters())
    with pytest.raises(ConfigError, match="MuonConstructor"):
        build_optim_wrapper(Net(), dict(type="OptimWrapper", optimizer=dict(type="MuonAdamW", lr=0.1)))
