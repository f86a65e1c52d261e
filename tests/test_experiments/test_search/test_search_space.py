import pytest

from ctvlm.engine import ConfigError, load_config
from ctvlm.experiments.search import Choice, Range, option_text, read_search

CONFIG = "configs/vit3d_cot_contrastive.py"
TUNE = dict(
    metric="retrieval/t2i_MRR",
    direction="maximize",
    space={
        "optim_wrapper.optimizer.lr": dict(low=1e-4, high=3e-3, log=True),
        "model.backbone.attention.type": ["SliceAwareAttention", "AxialAttention"],
        "model.backbone.drop_path": dict(low=0.0, high=0.3, step=0.1),  # not in the config, but the backbone takes it
        "model.backbone.depth": dict(low=2, high=4),
        "param_scheduler.0.end": [10, 30],
        "optim_wrapper.optimizer.betas": [[0.9, 0.98], [0.9, 0.999]],
        "model.regions_in_volume": [True, False],
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
    """Optuna's trial, which always takes the first or the lowest."""

    def suggest_categorical(self, name, choices):
        return choices[0]

    def suggest_float(self, name, low, high, **kwargs):
        return low

    suggest_int = suggest_float


def test_a_search_is_read(cfg):
    search = read_search(cfg())
    assert search.space[0] == Range("optim_wrapper.optimizer.lr", 1e-4, 3e-3, log=True)
    assert search.space[1] == Choice("model.backbone.attention.type", ("SliceAwareAttention", "AxialAttention"))
    assert search.suggest(FirstTrial()) == [
        "optim_wrapper.optimizer.lr=0.0001",
        "model.backbone.attention.type=SliceAwareAttention",
        "model.backbone.drop_path=0.0",
        "model.backbone.depth=2",
        "param_scheduler.0.end=10",
        "optim_wrapper.optimizer.betas=[0.9,0.98]",
        "model.regions_in_volume=True",
    ]


def test_options_reach_the_config_as_they_were_meant(cfg, repo_root):
    from argparse import ArgumentParser

    from ctvlm.engine import ConfigOptions

    parser = ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions)
    options = parser.parse_args(["--cfg-options", *read_search(cfg()).suggest(FirstTrial())]).cfg_options
    loaded = load_config(repo_root / CONFIG, options)
    assert loaded.optim_wrapper.optimizer.lr == 1e-4
    assert loaded.optim_wrapper.optimizer.betas == [0.9, 0.98]
    assert loaded.model.regions_in_volume is True
    assert loaded.param_scheduler[0].end == 10
    assert loaded.model.backbone.drop_path == 0.0


@pytest.mark.parametrize("value", [1, 0.5, 1e-7, True, None, "word", "two words", [1, 2], [[1, 2], [3]], ["a", "b"]])
def test_values_travel_through_the_command_line(value):
    assert isinstance(option_text(value), str)


@pytest.mark.parametrize("value", ["None", "1e-3", "true", "a,b", {"type": "X"}])
def test_values_that_would_change_on_the_way_are_refused(value):
    with pytest.raises(ValueError, match="would be read as"):
        option_text(value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"model.backbon.depth": [1, 2]}, "no 'backbon' in 'model' of the config: did you mean 'backbone'?"),
        ({"modle.depth": [1, 2]}, "no 'modle' in the config: did you mean 'model'?"),
        ({"model.backbone.depht": [1, 2]}, "did you mean 'depth'?"),
        ({"param_scheduler.7.end": [1, 2]}, "no '7' in 'param_scheduler'"),
        ({"model.backbone.attention.type": ["AxialAttn", "FullAttention"]}, "did you mean 'AxialAttention'?"),
        ({"model.backbone.attention.type": ["AxialAttention", "RetrievalMetric"]}, "'RetrievalMetric' is not reg"),
        ({"model.backbone.type": ["ThreeDVisionEncoder", "SliceWiseTimm"]}, "SliceWiseTimm takes no '"),
        ({"model.backbone.depth": [2]}, "two or more that differ"),
        ({"model.backbone.depth": [2, 2]}, "two or more that differ"),
        ({"model.backbone.depth": 2}, "is 2: expected a list of choices"),
        ({"model.backbone.depth": dict(low=1)}, "expected a list of choices, or dict"),
        ({"model.backbone.depth": dict(low=4, high=2)}, "expected low < high"),
        ({"model.backbone.depth": dict(low=0, high=2, log=True)}, "above 0 with log"),
        ({"model.backbone.depth": dict(low=1, high=4, step=0.5)}, "between whole numbers"),
        ({"model.backbone.depth": dict(low="1", high=4)}, "low is '1', expected a number"),
        ({"model.backbone.attention": [dict(type="FullAttention"), None]}, "cannot be given on the command line"),
        ({}, "tune.space is empty"),
    ],
)
def test_mistakes_in_the_space_are_named(cfg, space, message):
    with pytest.raises(ConfigError) as caught:
        read_search(cfg(space=space))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(metric="retrieval/t2i_R@2"), "did you mean 'retrieval/"),
        (dict(metric=None), "tune.metric is None"),
        (dict(direction="up"), "expected 'maximize' or 'minimize'"),
        (dict(trials=3), "tune has no 'trials'"),
    ],
)
def test_mistakes_around_the_space_are_named(cfg, changes, message):
    with pytest.raises(ConfigError) as caught:
        read_search(cfg(**changes))
    assert message in str(caught.value)


def test_a_config_that_cannot_be_searched_says_so(cfg):
    plain = cfg()
    plain.tune = None
    with pytest.raises(ConfigError, match="no tune=dict"):
        read_search(plain)
    unvalidated = cfg()
    unvalidated.val_evaluator = None
    with pytest.raises(ConfigError, match="does not validate"):
        read_search(unvalidated)


def test_of_other_peoples_metrics_the_prefix_is_known(cfg):
    import tests.test_engine.toy  # noqa: F401  (registers ToyMetric)

    other = cfg(metric="toy/error")
    other.val_evaluator = dict(type="ToyMetric")
    assert read_search(other).metric == "toy/error"
