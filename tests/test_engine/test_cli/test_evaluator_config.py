import pytest
from mmengine.config import Config

from ctvlm.engine.cli.evaluator_config import (
    dump_config,
    link_dev_thresholds,
    metric_configs,
    with_bootstrap,
    without_dumps,
)
from ctvlm.registry import METRICS
from ctvlm.text.finding_labels import CT_RATE_LABELS

CONFIGS = [
    dict(type="RetrievalMetric", topk=(1,)),
    dict(type="ZeroShotClassificationMetric", protocol="ct_clip"),
    dict(type="ZeroShotClassificationMetric", thresholds="dev", names=["Nodule"], prefix="own"),
    dict(type="DumpPredictions", out="a.pt"),
]


@pytest.mark.parametrize("form", [CONFIGS, dict(metrics=CONFIGS), [dict(type="Evaluator", metrics=CONFIGS)]])
def test_all_forms_of_an_evaluator(form):
    cfg = Config(dict(test_evaluator=form))
    assert metric_configs(cfg) == CONFIGS
    metric_configs(cfg)[0]["topk"] = None  # a copy
    assert metric_configs(cfg) == CONFIGS
    assert metric_configs(Config(dict(test_evaluator=CONFIGS[0]))) == CONFIGS[:1]
    assert metric_configs(Config(dict(test_evaluator=None))) == metric_configs(Config(dict())) == []


def test_bootstrap_is_set_for_metrics_with_intervals():
    METRICS.register_module(name="ToyWithout", module=type("ToyWithout", (), {}), force=True)
    metrics = with_bootstrap([*CONFIGS, dict(type="ToyWithout")], 7)
    assert [metric.get("bootstrap") for metric in metrics] == [7, 7, 7, 7, None]
    assert all("bootstrap" not in metric for metric in CONFIGS)


def test_dump_contains_the_prompts_of_all_protocols():
    dump = METRICS.build(dump_config(without_dumps(CONFIGS), "x.pt"))
    assert set(dump.prompts()) >= {"Emphysema is present.", "There is Nodule."}
    assert dump.names == [*CT_RATE_LABELS, "Nodule"]
    assert METRICS.build(dump_config(CONFIGS[:1], "x.pt")).prompts() == []


def test_dump_contains_the_needed_keys():
    dump = METRICS.build(dump_config([*CONFIGS, dict(type="ReportGenerationMetric", reference="impression")], "x.pt"))
    assert {"pred_volume", "pred_impression", "labels", "pred_report", "patient_id"} <= dump.keys
    assert not {"pred_patches", "lesion_map", "findings"} & dump.keys
    METRICS.register_module(name="ToyWithout", module=type("ToyWithout", (), {}), force=True)
    assert dump_config([*CONFIGS, dict(type="ToyWithout")], "x.pt")["keys"] is None


def test_dev_thresholds_are_written_and_read(tmp_path):
    dev_metrics, test_metrics = link_dev_thresholds(CONFIGS, tmp_path)
    assert len(test_metrics) == len(CONFIGS)
    assert [metric["save_thresholds"] for metric in dev_metrics] == [test_metrics[2]["thresholds"]]
    assert dev_metrics[0]["thresholds"] is None
    assert test_metrics[:2] == CONFIGS[:2]
    assert link_dev_thresholds(CONFIGS[:2], tmp_path) == ([], CONFIGS[:2])


def test_unknown_metric():
    with pytest.raises(KeyError, match="NoMetric"):
        without_dumps([dict(type="NoMetric")])
