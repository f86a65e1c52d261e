"""Location questions: presence, side, lobe."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.evaluation import LocationQuestionMetric
from ctvlm.evaluation.functional import location_chance, location_scores, paired_organs
from ctvlm.evaluation.functional.location_questions import finding_sites, is_best, side_of_site
from ctvlm.evaluation.functional.zero_shot import prompt_pairs
from ctvlm.evaluation.metrics.location_question_metric import TEMPLATES, stated_findings
from ctvlm.phantom import PhantomCT
from ctvlm.structures import CoTStep

NAMES = RegionScheme.load().names
FINDINGS = ["lung nodule", "consolidation", "ground-glass opacity", "renal cyst", "hiatal hernia"]
NAN = float("nan")


def test_paired_organs_of_the_default_scheme():
    lung, kidney = paired_organs(NAMES)
    assert (lung.name, lung.sides, lung.lobes) == ("lung", {"right": (1, 2, 3), "left": (4, 5)}, {1, 2, 3, 4, 5})
    assert (kidney.name, kidney.sides, kidney.lobes) == ("kidney", {"right": (17,), "left": (18,)}, set())
    assert [organ.name for organ in paired_organs(["adrenal_gland_left", "adrenal_gland_right", "hip_left"])] == [
        "adrenal gland"
    ]


def test_sites_come_from_steps_with_one_finding():
    sites = finding_sites([("Nodule",), ("nodule", "cyst"), ()], [(1,), (5, 12), (7,)])
    assert sites == {"nodule": {1}, "cyst": frozenset()}
    lung = paired_organs(NAMES)[0]
    assert [side_of_site(site, lung) for site in ({1, 3}, {4}, {1, 4}, {12}, {1, 12}, ())] == [
        "right", "left", None, None, None, None,
    ]  # fmt: skip


def test_ties_are_wrong():
    assert is_best({"right": 2, "left": 1}, {"right"}) and not is_best({"right": 1, "left": 1}, {"right"})
    assert is_best({1: 1, 2: 3, 3: 2}, {1, 2}) and not is_best({}, {1})


def test_scores_equal_a_naive_count():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        present, side, lobe = rng.random() < 0.4, NAN, NAN
        if present and rng.random() < 0.8:
            side = float(rng.random() < 0.6)
            lobe = float(rng.random() < 0.5) if rng.random() < 0.7 else NAN
        rows.append([present, rng.random() < 0.7, side, lobe, NAN if math.isnan(lobe) else rng.choice([1 / 3, 1 / 2])])

    def share(hits: list[bool]) -> float:
        return sum(hits) / len(hits)

    asked = [row for row in rows if not math.isnan(row[3])]
    expected = {
        "presence_accuracy": sum(share([r[1] for r in rows if r[0] == value]) for value in (True, False)) / 2,
        "side_accuracy": share([r[2] for r in rows if not math.isnan(r[2])]),
        "side_given_presence": share([r[2] for r in rows if not math.isnan(r[2]) and r[1]]),
        "lobe_accuracy": share([r[3] for r in asked]),
        "lobe_given_side": share([r[3] for r in asked if r[1] and r[2]]),
        "chain_accuracy": share([bool(r[1] and r[2] and r[3]) for r in asked]),
    }
    assert location_scores(np.array(rows, dtype=float)) == pytest.approx(expected)
    chance = location_chance(np.array(rows, dtype=float))
    assert chance["lobe_accuracy_chance"] == pytest.approx(share([r[4] for r in asked]))
    assert all(math.isnan(value) for value in {**location_scores([]), **location_chance([])}.values())


def test_constant_answers_score_presence_at_chance():
    rows = np.full((10, 5), NAN)
    rows[:, 0] = np.arange(10) < 2
    rows[:, 1] = rows[:, 0] == 0  # "no" to every question
    assert location_scores(rows)["presence_accuracy"] == 0.5


def test_findings_of_a_step():
    assert stated_findings(CoTStep("A cyst.", (12,), ("renal cyst",))) == ("renal cyst",)
    assert stated_findings(CoTStep("A nodule in the right upper lobe.", (1,))) == ("Lung nodule",)
    assert stated_findings(CoTStep("No nodule in the right lung.", (1,))) == ()
    assert stated_findings(CoTStep("The lung is clear.", (1,), ("lung nodule",), normal=True)) == ()


@pytest.fixture(scope="module")
def cases():
    data = PhantomCT(60, split="questions", shape=(8, 64, 64), pipeline=[PackCTInputs()], num_workers=0, cache=False)
    return [data[i]["data_samples"].to_dict() for i in range(len(data))]


def predicted(cases: list[dict], metric: LocationQuestionMetric, swap_sides: bool = False) -> list[dict]:
    """Predictions of a model that knows the truth: embeddings are indicators of the prompts."""
    prompts = metric.prompts()
    # The last axis belongs to no prompt: it keeps the norms of features without findings above 0.
    *rows, background = np.eye(len(prompts) + 1)
    axis = dict(zip(prompts, rows))
    metric.set_prompt_embeddings(axis)
    scheme, samples = RegionScheme.load(), []
    for case in cases:
        steps = case["steps"]
        sites = finding_sites([stated_findings(s) for s in steps], [s.regions for s in steps])
        volume, regions = background.copy(), np.tile(background, (20, 1))
        for finding in metric.findings:
            for present, absent in prompt_pairs(finding, TEMPLATES):
                volume += axis[present if finding in sites else absent]
            for region in sites.get(finding, ()):
                partner = scheme.partner_ids().get(region, region) if swap_sides else region
                name = scheme[region].name
                side = next((side for side in ("right", "left") if side in name), None)
                if side is None:
                    continue
                organ = "lung" if "lobe" in name else "kidney"
                for text in (f"{finding} in the {side} {organ}.", f"{finding} in the {scheme[region].display_name}."):
                    regions[partner - 1] += axis.get(text[0].upper() + text[1:], 0)
        mask = np.ones(20, dtype=bool)
        samples.append(dict(case, pred_volume=volume, pred_regions=regions, pred_region_mask=mask))
    return samples


def scored(metric: LocationQuestionMetric, samples: list[dict]) -> dict:
    metric.process(None, samples)
    return {name.removeprefix("location/"): value for name, value in metric.evaluate(len(samples)).items()}


def test_a_model_that_knows_the_truth_answers_every_question_on_phantoms(cases):
    metric = LocationQuestionMetric(FINDINGS)
    result = scored(metric, predicted(cases, metric))
    assert result["num_presence"] == len(cases) * len(FINDINGS)
    assert result["num_present"] > result["num_side"] >= result["num_lobe"] >= 5
    for name in ("presence", "side", "lobe", "chain"):
        assert result[f"{name}_accuracy"] == 1 > result[f"{name}_accuracy_chance"]
    assert result["side_given_presence"] == result["lobe_given_side"] == 1
    assert result["side_accuracy_chance"] == 0.5 and 1 / 3 <= result["lobe_accuracy_chance"] <= 1 / 2


def test_features_of_the_other_side_are_wrong(cases):
    metric = LocationQuestionMetric(FINDINGS)
    result = scored(metric, predicted(cases, metric, swap_sides=True))
    assert result["presence_accuracy"] == 1
    assert result["side_accuracy"] == 0 and result["chain_accuracy"] == 0 and math.isnan(result["lobe_given_side"])


def test_constant_features_answer_no_side_and_no_lobe(cases):
    for features in ("region", "volume"):
        metric = LocationQuestionMetric(FINDINGS, features=features)
        metric.set_prompt_embeddings(dict.fromkeys(metric.prompts(), np.ones(4)))
        constant = dict(pred_volume=np.ones(4), pred_regions=np.ones((20, 4)), pred_region_mask=np.ones(20, dtype=bool))
        result = scored(metric, [dict(case, **constant) for case in cases])
        assert result["presence_accuracy"] == result["side_accuracy"] == result["lobe_accuracy"] == 0


def test_regions_outside_the_volume_are_no_answers():
    metric = LocationQuestionMetric(["lung nodule"])
    metric.set_prompt_embeddings(dict.fromkeys(metric.prompts(), np.ones(4)))
    mask = np.ones(20, dtype=bool)
    mask[3:5] = False  # the left lung
    step = CoTStep("A nodule.", (1,), ("lung nodule",))
    case = dict(case_id="a", steps=[step], pred_volume=np.ones(4), pred_regions=np.ones((20, 4)), pred_region_mask=mask)
    result = scored(metric, [case])
    assert (result["num_present"], result["num_side"], result["num_lobe"]) == (1, 0, 0)
    assert math.isnan(result["side_accuracy"]) and math.isnan(result["side_accuracy_chance"])


@pytest.mark.parametrize("options", [dict(findings=[]), dict(findings="nodule"), dict(findings=["a"], features="step")])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        LocationQuestionMetric(**options)


def test_missing_embeddings_and_another_scheme_are_refused():
    metric = LocationQuestionMetric(["a"])
    case = dict(case_id="a", steps=[CoTStep("A.")], pred_volume=np.ones(4))
    with pytest.raises(ValueError, match="PromptHook"):
        metric.process(None, [case])
    metric.set_prompt_embeddings(dict.fromkeys(metric.prompts(), np.ones(4)))
    with pytest.raises(ValueError, match="21 regions"):
        metric.process(None, [dict(case, pred_regions=np.ones((21, 4)), pred_region_mask=np.ones(21))])
