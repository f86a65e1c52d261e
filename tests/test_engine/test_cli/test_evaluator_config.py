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

LISTED = [
    dict(type="RetrievalMetric", topk=(1,)),
    dict(type="ZeroShotClassificationMetric", protocol="ct_clip"),
    dict(type="ZeroShotClassificationMetric", thresholds="dev", names=["Nodule"], prefix="own"),
    dict(type="DumpPredictions", out="a.pt"),
]


@pytest.mark.parametrize("form", [LISTED, dict(metrics=LISTED), [dict(type="Evaluator", metrics=LISTED)]])
def test_every_form_of_an_evaluator_is_read(form):
    cfg = Config(dict(test_evaluator=form))
    assert metric_configs(cfg) == LISTED
    metric_configs(cfg)[0]["topk"] = None  # a copy
    assert metric_configs(cfg) == LISTED
    assert metric_configs(Config(dict(test_evaluator=LISTED[0]))) == LISTED[:1]
    assert metric_configs(Config(dict(test_evaluator=None))) == metric_configs(Config(dict())) == []


def test_intervals_only_where_a_metric_has_them():
    METRICS.register_module(name="ToyWithout", module=type("ToyWithout", (), {}), force=True)
    got = with_bootstrap([*LISTED, dict(type="ToyWithout")], 7)
    assert [metric.get("bootstrap") for metric in got] == [7, 7, 7, 7, None]
    assert all("bootstrap" not in metric for metric in LISTED)


def test_a_dump_keeps_the_prompts_of_all_protocols():
    dump = METRICS.build(dump_config(without_dumps(LISTED), "x.pt"))
    assert set(dump.prompts()) >= {"Emphysema is present.", "There is Nodule."}
    assert dump.names == [*CT_RATE_LABELS, "Nodule"]
    assert METRICS.build(dump_config(LISTED[:1], "x.pt")).prompts() == []


def test_a_dump_contains_what_the_metrics_need():
    dump = METRICS.build(dump_config([*LISTED, dict(type="ReportGenerationMetric", reference="impression")], "x.pt"))
    assert {"pred_volume", "pred_impression", "labels", "pred_report", "patient_id"} <= dump.keys
    assert not {"pred_patches", "lesion_map", "findings"} & dump.keys
    METRICS.register_module(name="ToyWithout", module=type("ToyWithout", (), {}), force=True)
    assert dump_config([*LISTED, dict(type="ToyWithout")], "x.pt")["keys"] is None


def test_dev_thresholds_are_written_where_they_are_read(tmp_path):
    fitted, reading = link_dev_thresholds(LISTED, tmp_path)
    assert len(reading) == len(LISTED)
    assert [metric["save_thresholds"] for metric in fitted] == [reading[2]["thresholds"]]
    assert fitted[0]["thresholds"] is None
    assert reading[:2] == LISTED[:2]
    assert link_dev_thresholds(LISTED[:2], tmp_path) == ([], LISTED[:2])


def test_an_unknown_metric_is_named():
    with pytest.raises(KeyError, match="NoMetric is not in the ctvlm::metric registry"):
        without_dumps([dict(type="NoMetric")])
