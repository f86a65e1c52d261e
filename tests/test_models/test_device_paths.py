"""What the model computes differently on a GPU gives the losses and gradients of the CPU."""

from __future__ import annotations

import pytest
import torch

from ctvlm.testing.objectives import random_batch, small_model
from tests.test_models.test_no_host_synchronisation import VARIANTS, build, packed


def losses_and_gradients(model, batch, monkeypatch, device):
    if device:  # the paths of a compiled graph are those of a GPU: they read no values
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.manual_seed(0)
    model.zero_grad()
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    found = {name: loss.detach() for name, loss in losses.items()}
    found |= {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    monkeypatch.undo()
    return found


def assert_equal_on_a_device(model, batch, monkeypatch):
    host, device = (losses_and_gradients(model.train(), batch, monkeypatch, device) for device in (False, True))
    assert host.keys() == device.keys()
    for name, value in host.items():
        torch.testing.assert_close(
            device[name], value, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("config", VARIANTS, ids=lambda config: str(config["type"]))
def test_objectives(config, monkeypatch):
    assert_equal_on_a_device(small_model(config), packed(*random_batch(4)), monkeypatch)


@pytest.mark.parametrize("selection", ["body", "none"])
def test_default_config(selection, monkeypatch):
    options = {"model.backbone.token_selection": selection}
    assert_equal_on_a_device(*build("configs/vit3d_cot_contrastive.py", 3, **options), monkeypatch)
