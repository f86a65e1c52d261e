from types import SimpleNamespace

import pytest
from torch import nn

from ctvlm.engine import PredictionKeysHook
from ctvlm.evaluation import DumpPredictions, RegionTextMetric, ReportGenerationMetric, RetrievalMetric, needed_keys


class Model(nn.Module):
    def set_predictions(self, keys):
        self.keys = keys


def runner(model, metrics):
    loop = SimpleNamespace(evaluator=SimpleNamespace(metrics=metrics))
    return SimpleNamespace(model=model, val_loop=loop, test_loop=loop)


@pytest.mark.parametrize("event", ["before_val_epoch", "before_test_epoch"])
def test_model_gets_the_union_of_needs(event):
    model = Model()
    getattr(PredictionKeysHook(), event)(runner(model, [RegionTextMetric(), RetrievalMetric()]))
    assert model.keys == RegionTextMetric.needs | RetrievalMetric.needs
    assert "pred_patches" not in model.keys


@pytest.mark.parametrize("metric", [object(), DumpPredictions("all.pt")])
def test_metric_without_needs_means_all_predictions(metric):
    model = Model()
    PredictionKeysHook().before_test_epoch(runner(model, [RetrievalMetric(), metric]))
    assert model.keys is None


def test_model_without_the_method_is_left_alone():
    model = nn.Linear(1, 1)
    before = set(vars(model))
    PredictionKeysHook().before_val_epoch(runner(model, [RetrievalMetric()]))
    assert set(vars(model)) == before


def test_needs_depend_on_options():
    assert "impression" in needed_keys([ReportGenerationMetric(reference="impression")])
    assert "impression" not in needed_keys([ReportGenerationMetric(reference="findings")])
    assert needed_keys([]) == frozenset()
