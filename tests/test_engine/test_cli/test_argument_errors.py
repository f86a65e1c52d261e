from __future__ import annotations

import pytest
from torch import nn

from ctvlm.engine import CTVLMRunner, user_message
from ctvlm.registry import ATTENTION, METRICS

TYPOS = [
    ("train_dataloader.num_worker", 1, "DataLoader", "num_workers"),
    ("train_dataloader.sampler.shufle", True, "DefaultSampler", "shuffle"),
    ("train_dataloader.dataset.lenght", 3, "ToyDataset", "length"),
    ("visualizer.vis_backend", [], "CTVisualizer", "vis_backends"),
    ("optim_wrapper.optimiser", {}, "OptimWrapper", "optimizer"),
    ("optim_wrapper.optimizer.weight_deca", 0.1, "AdamW", "weight_decay"),
    ("optim_wrapper.clip_grad", {"max_nor": 1.0}, "clip_grad_norm_", "max_norm"),
    ("param_scheduler.0.T_maxx", 4, "CosineAnnealingParamScheduler", "T_max"),
    ("default_hooks.checkpoint.intervall", 1, "PlainCheckpointHook", "interval"),
    ("default_hooks.progress.intervl", 1, "RichProgressHook", "interval"),
    ("val_evaluator.prefixx", "a", "ToyMetric", "prefix"),
    ("train_cfg.val_intervall", 3, "ResumableEpochLoop", "val_interval"),
    ("model.widht", 3, "ToyModel", "width"),
]


def message_of(cfg) -> str | None:
    with pytest.raises(Exception) as info:
        CTVLMRunner.from_cfg(cfg).train()
    return user_message(info.value)


@pytest.mark.parametrize(("key", "value", "component", "meant"), TYPOS, ids=lambda value: str(value))
def test_mistyped_key(toy_config, key, value, component, meant):
    cfg = toy_config()
    cfg.merge_from_dict({key: value})
    place = f"{key}.max_nor" if key.endswith("clip_grad") else key
    argument = place.rpartition(".")[2]
    assert message_of(cfg) == f"{place}: {component} has no argument '{argument}'; did you mean '{meant}'?"


def test_mistyped_name_of_a_hook(toy_config):
    message = message_of(toy_config(default_hooks__checkpont=dict(interval=1)))
    assert message.startswith("default_hooks.checkpont: found 'interval'")
    assert message.endswith("did you mean 'default_hooks.checkpoint'?")


def test_mistyped_type(toy_config):
    cfg = toy_config()
    cfg.model = dict(typ="ToyModel")
    assert message_of(cfg) == "model: found 'typ'; expected a key 'type': did you mean 'type' instead of 'typ'?"


@pytest.mark.parametrize(
    ("place", "section", "message"),
    [
        ("optim_wrapper.optimizer", {"lrr": 0.1}, "found 'lrr'; expected a key 'type'"),
        ("optim_wrapper.optimizer", {"typ": "AdamW"}, "did you mean 'type' instead of 'typ'?"),
        (
            "optim_wrapper",
            {"type": "OptimWrapper", "optimiser": {}},
            "did you mean 'optimizer' instead of 'optimiser'?",
        ),
        ("train_dataloader", {"datset": {}, "batch_size": 2}, "did you mean 'dataset' instead of 'datset'?"),
        ("val_dataloader", {"batch_size": 2}, "found 'batch_size'; expected a key 'dataset'"),
        ("param_scheduler.0", {"T_max": 3}, "found 'T_max'; expected a key 'type'"),
    ],
)
def test_missing_key(toy_config, place, section, message):
    cfg = toy_config()
    *parents, name = place.split(".")
    parent = cfg
    for key in parents:
        parent = parent[key]
    parent[int(name) if name.isdigit() else name] = section
    found = message_of(cfg)
    assert found.startswith(f"{place}: found ") and found.endswith(message)


def test_argument_of_a_base_class():
    """ClassificationMetric passes **kwargs on."""
    with pytest.raises(TypeError) as info:
        METRICS.build(dict(type="ClassificationMetric", bootstap=3))
    assert user_message(info.value) == (
        "config: ClassificationMetric has no argument 'bootstap'; did you mean 'bootstrap'?"
    )


def test_wrong_call_inside_a_component_is_a_bug():
    def helper():
        pass

    @ATTENTION.register_module(name="Wrong", force=True)
    class Wrong(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.setup(size)

        def setup(self, size):
            helper(size=size)

    try:
        with pytest.raises(TypeError) as info:
            ATTENTION.build({"type": "Wrong", "size": 1})
    finally:
        del ATTENTION.module_dict["Wrong"]
    assert user_message(info.value) is None
