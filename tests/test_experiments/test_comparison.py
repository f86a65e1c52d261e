"""Tables that compare models on the same cases."""

from __future__ import annotations

import math
import re
import time
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from ctvlm.apis import init_model
from ctvlm.apis.case_predictions import RANDOM_WEIGHTS, EvaluationData, predict_cases, weights_remark
from ctvlm.datasets import write_manifest
from ctvlm.engine import load_config
from ctvlm.engine.cli.dump_metrics import default_metrics
from ctvlm.evaluation import load_dump, save_dump
from ctvlm.evaluation.dump import is_dump
from ctvlm.evaluation.functional import Resamples, bootstrap_intervals, paired_interval
from ctvlm.evaluation.functional.published import published_figures
from ctvlm.experiments.comparison.cost import inference_cost
from ctvlm.experiments.comparison.same_cases import OtherCasesError, check_same_cases
from ctvlm.experiments.comparison.scores import compare_models
from ctvlm.experiments.comparison.table import markdown
from ctvlm.phantom import PhantomCT
from ctvlm.utils import CTVLMError
from ctvlm.volume import CTVolume, write_nifti
from tests.released import TEXTS, small_config
from tests.test_evaluation.metric_cases import random_dump


def rows_of(models, name):
    return {key: asdict(row) for key, row in next(m for m in models if m.name == name).rows.items()}


@pytest.fixture(scope="module")
def two_models():
    return compare_models({"a": random_dump(), "b": random_dump(0.8)}, ["ctvlm"], 20)


def test_paired_interval_is_that_of_the_differences():
    rng = np.random.default_rng(0)
    patients = [f"p{n // 2}" for n in range(20)]
    a_N, b_N = rng.random(20), rng.random(20)
    first, other = (
        Resamples(
            tuple(patients), bootstrap_intervals(lambda i, v=v: np.array([v[i].mean()]), patients, 50).resampled[0]
        )
        for v in (a_N, b_N)
    )
    naive = bootstrap_intervals(lambda i: np.array([(b_N - a_N)[i].mean()]), patients, 50)
    assert paired_interval(first, other) == pytest.approx((naive.low[0], naive.high[0]), abs=1e-12)
    assert paired_interval(first, Resamples(tuple(patients[:-1]), other.values)) is None


def test_difference_of_equal_models_is_exactly_zero():
    _, copy = compare_models({"a": random_dump(0.3), "copy": random_dump(0.3)}, ["ctvlm", "radfinder"], 20)
    differences = {key: difference for key, difference in copy.differences.items() if not math.isnan(difference.value)}
    assert {"retrieval/t2i_MRR", "retrieval_radfinder/t2i_MRR", "step_attention/pointing"} <= differences.keys()
    for key, difference in differences.items():
        assert difference.value == 0, key
        assert difference.low == difference.high == 0 or math.isnan(difference.low), key
    assert not math.isnan(copy.differences["retrieval/t2i_MRR"].low)


def test_order_of_models_and_cases_does_not_change_a_row(two_models):
    turned = compare_models({"b": random_dump(0.8, reversed(range(10))), "a": random_dump()}, ["ctvlm"], 20)
    for name in "ab":
        before, after = rows_of(two_models, name), rows_of(turned, name)
        assert before.keys() == after.keys()
        for key, row in before.items():
            assert after[key] == pytest.approx(row, nan_ok=True), key
    forward, back = two_models[1].differences, turned[1].differences
    assert forward["retrieval/t2i_MRR"].value != 0
    for key, difference in forward.items():
        assert (back[key].value, back[key].low, back[key].high) == pytest.approx(
            (-difference.value, -difference.high, -difference.low), nan_ok=True
        ), key


def test_metrics_over_other_items_have_no_difference():
    fewer = random_dump()
    for key in ("steps", "pred_steps", "pred_step_attention"):
        fewer["cases"][0][key] = fewer["cases"][0][key][:1]
    models = compare_models({"a": random_dump(), "fewer": fewer}, ["ctvlm"], 0)
    assert "retrieval/t2i_MRR" in models[1].differences
    assert "region_text/accuracy" not in models[1].differences
    assert "region_text/accuracy (N: 19, a: 20)" in markdown(models, "title", [])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda cases: cases.pop(3), ["9 cases in b, 10 in a", "b has no case_3"]),
        (lambda cases: cases.append(cases[3] | dict(case_id="new")), ["11 cases in b", "only b has new"]),
        (lambda cases: cases.append(cases[3]), ["case_3 twice"]),
        (lambda cases: cases[4].update(labels={"Emphysema": 1, "Other": 0}), ["another labels", "case_4"]),
        (lambda cases: cases[4].update(impression="Other."), ["another impression", "case_4"]),
        (lambda cases: cases[4].update(patient_id="x"), ["another patient_id", "case_4"]),
        (lambda cases: cases.clear(), ["b: found no cases"]),
    ],
)
def test_other_cases_are_refused(change, named):
    other = random_dump()
    change(other["cases"])
    with pytest.raises(OtherCasesError) as error:
        check_same_cases({"a": random_dump(), "c": random_dump(0.1), "b": other})
    assert all(text in str(error.value) for text in named), error.value
    assert "c has" not in str(error.value)


def test_dumps_are_told_from_checkpoints(tmp_path):
    save_dump(tmp_path / "a.pt", **random_dump())
    torch.save({"state_dict": {}}, tmp_path / "b.pt")
    (tmp_path / "c.pt").write_bytes(b"x")
    assert [is_dump(tmp_path / f"{name}.pt") for name in "abcd"] == [True, False, False, False]


def test_published_figures_are_complete():
    figures = published_figures()
    assert all(0 < figure.value < 1 and figure.protocol and figure.source for figure in figures)
    keys = [(figure.model, figure.data_set, figure.metric) for figure in figures]
    assert len(set(keys)) == len(keys)
    assert {figure.n for figure in figures if figure.metric.startswith("text to image")} == {1564}
    assert all(re.search(r"arXiv \d{4}\.\d{5}", figure.source) for figure in figures)


def test_cost_of_a_linear_layer():
    layer, inputs_1I = nn.Linear(6, 4), torch.ones(3, 6)
    cost = inference_cost(lambda: layer(inputs_1I), layer, (1, 2, 3), torch.device("cpu"), repeats=2)
    assert cost.parameters == cost.encoder_parameters == 28
    assert cost.flops == 2 * 3 * 6 * 4
    assert cost.peak_bytes >= 3 * 4 * 4 and cost.seconds > 0


def test_slow_models_are_timed_once():
    layer, calls = nn.Linear(2, 2), []

    def embed():
        calls.append(layer(torch.ones(1, 2)))
        time.sleep(0.01)

    arguments = (embed, layer, (1, 1, 2), torch.device("cpu"))
    inference_cost(*arguments, repeats=4, limit_s=0.001)
    slow = len(calls)
    inference_cost(*arguments, repeats=4, limit_s=math.inf)
    assert len(calls) - slow == slow + 3


def test_a_dump_keeps_the_cost(tmp_path):
    layer = nn.Linear(2, 2)
    cost = inference_cost(lambda: layer(torch.ones(1, 2)), layer, (1, 1, 2), torch.device("cpu"), repeats=1)
    save_dump(tmp_path / "a.pt", **random_dump(), cost=asdict(cost))
    assert compare_models({"a": load_dump(tmp_path / "a.pt")}, ["ctvlm"], 0)[0].cost == cost
    for broken in ({"seconds": 1.0}, asdict(cost) | dict(shape=[1, 2]), asdict(cost) | dict(seconds="1")):
        save_dump(tmp_path / "b.pt", **random_dump(), cost=broken)
        with pytest.raises(CTVLMError, match="cost.*Write the dump again"):
            compare_models({"b": load_dump(tmp_path / "b.pt")}, ["ctvlm"], 0)


def test_only_cases_without_text_get_measured_text(tmp_path):
    phantom = PhantomCT(num_cases=1, shape=(16, 64, 64), num_workers=0, cache=False).results(0)
    for key in ("volume", "region_map"):
        write_nifti(CTVolume(phantom[key], phantom["affine"]), tmp_path / f"{key}.nii.gz")
    case = dict(patient_id="p", split="test", volume="volume.nii.gz")
    bare = dict(case, case_id="bare", region_map=dict(path="region_map.nii.gz", source="thorax_abdomen_20"))
    given = dict(case, case_id="given", report=dict(impression="A nodule."))
    write_manifest([bare, given], tmp_path / "cases.jsonl")
    plain, measured = (
        EvaluationData.of_manifest(tmp_path / "cases.jsonl", None, measure_text=measure).texts()
        for measure in (False, True)
    )
    assert plain == ["A nodule.", "A nodule."] == measured[-2:]
    assert "of 20 regions labelled" in measured[0] and len(measured) > 5


def test_models_on_the_test_data_of_a_config(released_model, tmp_path):
    trained, random = init_model(released_model, device="cpu"), init_model(small_config(), device="cpu")
    assert "phantoms only" in weights_remark(trained) and weights_remark(random) == RANDOM_WEIGHTS
    random.fit_tokenizer(TEXTS)
    data = EvaluationData.of_config(small_config())
    dumps = {}
    for name, model in dict(trained=trained, random=random).items():
        predictions = predict_cases(
            model, data.batches(model), lambda names: default_metrics(names, protocols=["ctvlm"])
        )
        save_dump(tmp_path / f"{name}.pt", **predictions)
        dumps[name] = load_dump(tmp_path / f"{name}.pt")
    check_same_cases(dumps)
    models = compare_models(dumps, ["ctvlm"], 5)
    assert {"retrieval/t2i_MRR", "step_attention/pointing", "zero_shot_ctvlm/auroc"} <= models[0].rows.keys()
    assert "random (random weights)" in markdown(models, "title", [])
    assert "trained (trained on phantoms only)" in markdown(models, "title", [])


def test_config_data_without_test_cases_are_refused():
    cfg = load_config("configs/vit3d_cot_contrastive.py")
    cfg.test_dataloader = None
    with pytest.raises(CTVLMError, match="test_dataloader"):
        EvaluationData.of_config(cfg)
