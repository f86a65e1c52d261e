"""Metrics of steps by the stage of the chain."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from ctvlm.evaluation import (
    AlignmentMetric,
    LocalisationMetric,
    RegionRetrievalMetric,
    RegionTextMetric,
    SliceLocalisationMetric,
    StepTextMetric,
)
from ctvlm.structures import STAGES, CoTStep
from tests.test_evaluation.metric_cases import REGIONS, WIDTH, sample, scored, unit

METRICS = [
    AlignmentMetric,
    LocalisationMetric,
    RegionRetrievalMetric,
    RegionTextMetric,
    SliceLocalisationMetric,
    StepTextMetric,
]
# By the number of the step in each case. The last step has no stage.
OF_STEPS = ("observation", "answer", "observation", "reason", "answer", "")
LESIONS = [1, 2, 2, None, 1, 1]


def staged(number: int, stages=OF_STEPS, only: str | None = None):
    """A case with six steps on two lesions; optionally only the steps of one stage."""
    rng = np.random.default_rng(100 + number)
    case = sample(number)
    kinds = [("nodule",), ("cyst",)]
    findings = [kinds[0], kinds[1], (), kinds[number % 2], (), ()]
    steps = [
        CoTStep(f"Step {rng.integers(3)}.", tuple(rng.permutation(3)[:2] + 1), names, lesion, stage=stage)
        for stage, names, lesion in zip(stages, findings, LESIONS)
    ]
    texts_SP = unit(rng, len(steps), WIDTH)
    attention_SN = torch.tensor(rng.random((len(steps), 8))).softmax(-1)
    kept = [i for i, stage in enumerate(stages) if only in (None, stage)]
    case.steps, case.pred_steps, case.pred_step_attention = [steps[i] for i in kept], texts_SP[kept], attention_SN[kept]
    case.lesion_map = case.lesion_map.clone()
    case.lesion_map[tuple(rng.integers(0, 4, 3))] = 2
    case.pred_regions = unit(rng, REGIONS, WIDTH)
    return case.to_dict()


@pytest.mark.parametrize("metric", METRICS)
def test_scores_of_a_stage_equal_those_of_its_steps(metric):
    scores = scored(metric(bootstrap=5), [staged(n) for n in range(12)])
    for stage in STAGES:
        own = scored(metric(bootstrap=5), [staged(n, only=stage) for n in range(12)])
        own = {name: value for name, value in own.items() if name.count("/") == 1 and not isinstance(value, str)}
        if any(value for name, value in own.items() if "/num_" in name):
            found = {name: scores[name.replace("/", f"/{stage}/")] for name in own}
            assert found == pytest.approx(own, nan_ok=True)
        else:  # no step of this stage has a lesion
            assert not any(f"/{stage}/" in name for name in scores)


@pytest.mark.parametrize("metric", METRICS)
def test_totals_do_not_depend_on_stages(metric):
    cases = [[staged(n, stages) for n in range(12)] for stages in (OF_STEPS, [""] * len(OF_STEPS))]
    with_stages, without = (scored(metric(bootstrap=5), own) for own in cases)
    assert not any(f"/{stage}/" in name for stage in STAGES for name in without)
    assert {name: with_stages[name] for name in without} == pytest.approx(without, nan_ok=True)
    assert any("/observation/" in name for name in with_stages)


@pytest.mark.parametrize("metric", METRICS)
def test_unknown_stages_count_in_the_total_only(metric):
    """In a dump of another version; data sets refuse them."""
    cases = [staged(n) for n in range(12)]
    for case in cases:
        case["steps"] = [asdict(replace(step, stage="")) | dict(stage="think") for step in case["steps"]]
    scores = scored(metric(), cases)
    assert scores == pytest.approx(scored(metric(), [staged(n, [""] * 6) for n in range(12)]), nan_ok=True)


def test_dumps_before_stages_are_scored():
    cases = [staged(n) for n in range(12)]
    for case in cases:
        case["steps"] = [asdict(step) for step in case["steps"]]
        for step in case["steps"]:
            del step["stage"]
    assert scored(StepTextMetric(), cases)["step_text/num_steps"] > 0


def test_resamples_of_totals_and_stages_are_kept():
    metric = StepTextMetric(bootstrap=5)
    scores = scored(metric, [staged(n) for n in range(12)])
    with_interval = {name.removeprefix("step_text/").removesuffix("_low") for name in scores if name.endswith("_low")}
    assert set(metric.resamples) == with_interval
    assert {"auc", "observation/auc", "answer/auc"} <= with_interval


def test_findings_are_not_split_by_stage():
    scores = scored(LocalisationMetric(per_finding=True), [staged(n) for n in range(12)])
    assert "localisation/nodule/dice" in scores and "localisation/observation/dice" in scores
    assert not any(name.count("/") > 2 for name in scores)
