import re

import pytest

from ctvlm.engine import ConfigError, load_config
from ctvlm.experiments.search import Choice, Range, option_text, read_search

CONFIG = "configs/vit3d_cot_contrastive.py"
TUNE = dict(
    metric="retrieval/t2i_MRR",
    direction="maximize",
    space={
        "optim_wrapper.optimizer.lr": dict(low=1e-4, high=3e-3, log=True),
        "model.backbone.block.attention.type": ["SliceAwareAttention", "AxialAttention"],
        "model.backbone.block.drop_path": dict(low=0.0, high=0.3, step=0.1),  # the config does not set it
        "model.backbone.depth": dict(low=2, high=4),
        "param_scheduler.0.end": [10, 30],
        "optim_wrapper.optimizer.betas": [[0.9, 0.98], [0.9, 0.999]],
        "model.space.regions_in_volume": [True, False],
    },
)


@pytest.fixture
def cfg(repo_root):
    def make(**changes):
        cfg = load_config(repo_root / CONFIG)
        cfg.tune = {**TUNE, **changes}
        return cfg

    return make


class FirstTrial:
    """A trial that always suggests the first choice or the lower bound."""

    def suggest_categorical(self, name, choices):
        return choices[0]

    def suggest_float(self, name, low, high, **kwargs):
        return low

    suggest_int = suggest_float


def test_search_is_read_from_the_config(cfg):
    search = read_search(cfg())
    assert search.space[0] == Range("optim_wrapper.optimizer.lr", 1e-4, 3e-3, log=True)
    assert search.space[1] == Choice("model.backbone.block.attention.type", ("SliceAwareAttention", "AxialAttention"))
    assert search.suggest(FirstTrial()) == [
        "optim_wrapper.optimizer.lr=0.0001",
        "model.backbone.block.attention.type=SliceAwareAttention",
        "model.backbone.block.drop_path=0.0",
        "model.backbone.depth=2",
        "param_scheduler.0.end=10",
        "optim_wrapper.optimizer.betas=[0.9,0.98]",
        "model.space.regions_in_volume=True",
    ]


def test_options_set_the_config_values(cfg, repo_root):
    from argparse import ArgumentParser

    from ctvlm.engine import ConfigOptions

    parser = ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions)
    options = parser.parse_args(["--cfg-options", *read_search(cfg()).suggest(FirstTrial())]).cfg_options
    loaded = load_config(repo_root / CONFIG, options)
    assert loaded.optim_wrapper.optimizer.lr == 1e-4
    assert loaded.optim_wrapper.optimizer.betas == [0.9, 0.98]
    assert loaded.model.space.regions_in_volume is True
    assert loaded.param_scheduler[0].end == 10
    assert loaded.model.backbone.block.drop_path == 0.0


@pytest.mark.parametrize("value", [1, 0.5, 1e-7, True, None, "word", "two words", [1, 2], [[1, 2], [3]], ["a", "b"]])
def test_values_can_be_written_for_the_command_line(value):
    assert isinstance(option_text(value), str)


@pytest.mark.parametrize("value", ["None", "1e-3", "true", "a,b", {"type": "X"}])
def test_values_that_would_be_read_differently_are_rejected(value):
    with pytest.raises(ValueError, match=re.escape(repr(value))):
        option_text(value)


@pytest.mark.parametrize(
    ("space", "facts"),
    [
        ({"model.backbon.depth": [1, 2]}, ["'backbon'", "'model'", "'backbone'"]),
        ({"modle.depth": [1, 2]}, ["'modle'", "'model'"]),
        ({"model.backbone.depht": [1, 2]}, ["'depht'", "'depth'"]),
        ({"param_scheduler.7.end": [1, 2]}, ["'7'", "'param_scheduler'"]),
        ({"model.backbone.block.attention.type": ["AxialAttn", "FullAttention"]}, ["'AxialAttn'", "'AxialAttention'"]),
        ({"model.backbone.block.attention.type": ["AxialAttention", "RetrievalMetric"]}, ["'RetrievalMetric'"]),
        ({"model.backbone.type": ["ThreeDVisionEncoder", "SliceWiseTimm"]}, ["SliceWiseTimm"]),
        ({"model.backbone.depth": [2]}, ["['2']"]),
        ({"model.backbone.depth": [2, 2]}, ["['2', '2']"]),
        ({"model.backbone.depth": 2}, ["is 2"]),
        ({"model.backbone.depth": dict(low=1)}, ["{'low': 1}", "high="]),
        ({"model.backbone.depth": dict(low=4, high=2)}, ["low=4", "high=2"]),
        ({"model.backbone.depth": dict(low=0, high=2, log=True)}, ["low=0", "log"]),
        ({"model.backbone.depth": dict(low=1, high=4, step=0.5)}, ["step is 0.5"]),
        ({"model.backbone.depth": dict(low="1", high=4)}, ["low is '1'"]),
        ({"model.backbone.block.attention": [dict(type="FullAttention"), None]}, ["'model.backbone.block.attention'"]),
        ({}, ["tune.space"]),
    ],
)
def test_errors_in_the_space(cfg, space, facts):
    with pytest.raises(ConfigError) as caught:
        read_search(cfg(space=space))
    assert all(fact in str(caught.value) for fact in [*facts, *space])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(metric="retrieval/t2i_R@2"), "retrieval/t2i_R@1"),
        (dict(metric=None), "tune.metric is None"),
        (dict(direction="up"), "'maximize'"),
        (dict(trials=3), "'trials'"),
    ],
)
def test_errors_outside_the_space(cfg, changes, message):
    with pytest.raises(ConfigError) as caught:
        read_search(cfg(**changes))
    assert message in str(caught.value)


def test_config_without_tune_or_validation(cfg):
    plain = cfg()
    plain.tune = None
    with pytest.raises(ConfigError, match="tune="):
        read_search(plain)
    unvalidated = cfg()
    unvalidated.val_evaluator = None
    with pytest.raises(ConfigError, match="val_evaluator"):
        read_search(unvalidated)


def test_metric_of_a_plugin_is_checked_by_its_prefix(cfg):
    import tests.test_engine.toy  # noqa: F401  (registers ToyMetric)

    other = cfg(metric="toy/error")
    other.val_evaluator = dict(type="ToyMetric")
    assert read_search(other).metric == "toy/error"
