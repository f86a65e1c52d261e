"""Every parameter gets a gradient, or the config sets find_unused_parameters, as DDP requires."""

from __future__ import annotations

import pytest
import torch
from mmengine.dataset import pseudo_collate

from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.engine import load_config
from ctvlm.phantom import PhantomCT
from ctvlm.registry import MODELS
from tests.test_configs import RUNNABLE, name, shrink


@pytest.fixture(scope="module")
def cases():
    dataset = PhantomCT(num_cases=3, shape=(24, 96, 96), pipeline=[PackCTInputs()], num_workers=0)
    return [dataset[i] for i in range(3)], dataset.texts()


def untrained(cfg, cases) -> list[str]:
    """Parameters without a gradient after one step."""
    torch.manual_seed(0)
    model = MODELS.build(shrink(cfg.model))
    if model.needs_tokenizer():
        model.fit_tokenizer(cases[1])
    data = model.train().data_preprocessor(pseudo_collate(cases[0]), training=True)
    sum(model(**data, mode="loss").values()).backward()
    return [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("path", RUNNABLE, ids=name)
def test_every_weight_gets_a_gradient(path, cases):
    cfg = load_config(path)
    if cfg.model.type == "PublishedVLM":
        pytest.skip("is not trained")
    if cfg.model.backbone.type == "PretrainedTower":
        pytest.skip("published sizes take too much memory: see test_tower_configs")
    if cfg.model.backbone.num_regions != 20:
        pytest.skip("the cases of this test have the 20 regions of the default scheme")
    heads = [objective.get("head") for objective in (cfg.model.get("objectives") or {}).values()]
    if any(part and part.get("pretrained") for part in [cfg.model.text_encoder, *heads]):
        pytest.skip("needs a checkpoint of transformers")
    names = untrained(cfg, cases)
    assert cfg.find_unused_parameters or not names
