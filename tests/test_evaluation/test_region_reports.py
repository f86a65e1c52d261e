import math

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme
from ctvlm.evaluation import RegionReportMetric
from ctvlm.evaluation.functional import bleu, mention_scores, paired_region_texts, region_texts, rouge
from ctvlm.structures import CoTStep

NAMES = RegionScheme.load().names
WORDS = "no small nodule effusion right left lobe clear heart enlarged normal".split()


def sentence(rng):
    return " ".join(rng.choice(WORDS, rng.integers(4, 9))) + "."


def case(rng, number):
    """Random reference steps on five regions, and random generated steps on six."""
    steps = [
        CoTStep(
            sentence(rng), tuple(rng.choice(5, rng.integers(0, 3), replace=False) + 1), normal=bool(rng.integers(2))
        )
        for _ in range(rng.integers(0, 6))
    ]
    generated = [
        {"text": sentence(rng), "regions": [NAMES[i] for i in rng.choice(6, rng.integers(0, 3), replace=False)]}
        for _ in range(rng.integers(0, 6))
    ]
    return {"case_id": f"c{number}", "patient_id": f"p{number // 2}", "steps": steps, "pred_cot": generated}


def scored(samples, **kwargs):
    metric = RegionReportMetric(**kwargs)
    metric.process(None, samples)
    return {name.removeprefix("region_report/"): value for name, value in metric.evaluate(len(samples)).items()}


def naive(samples, abnormal_only=False):
    """Corpus scores of the pairs of each region, averaged over regions."""
    pairs, hits, generated, expected = {}, 0, 0, 0
    for data in samples:
        for region in range(1, len(NAMES) + 1):
            reference = [s for s in data["steps"] if region in s.regions]
            predicted = [s["text"] for s in data["pred_cot"] if NAMES[region - 1] in s["regions"]]
            hits, generated = hits + bool(reference and predicted), generated + bool(predicted)
            expected += bool(reference)
            if reference and not (abnormal_only and all(s.normal for s in reference)):
                pairs.setdefault(region, []).append((" ".join(predicted), " ".join(s.text for s in reference)))
    by_region = []
    for rows in pairs.values():
        predicted, reference = map(list, zip(*rows, strict=True))
        by_region.append(bleu(predicted, reference) | rouge(predicted, reference))
    scores = {
        name: np.mean([s[name] for s in by_region]) if by_region else math.nan for name in bleu([], []) | rouge([], [])
    }
    scores["mention_precision"] = hits / generated if generated and expected else (0.0 if expected else math.nan)
    scores["mention_recall"] = hits / expected if expected else math.nan
    scores["mention_f1"] = 2 * hits / (generated + expected) if expected else math.nan
    return scores | {"num_pairs": sum(map(len, pairs.values()))}


@pytest.mark.parametrize("abnormal_only", [False, True])
def test_metric_equals_a_naive_implementation(abnormal_only):
    rng = np.random.default_rng(0)
    for _ in range(100):
        samples = [case(rng, number) for number in range(rng.integers(1, 5))]
        got = scored(samples, abnormal_only=abnormal_only)
        assert got == pytest.approx(naive(samples, abnormal_only), abs=1e-9, nan_ok=True)


def test_reference_scores_one_and_empty_report_zero():
    rng = np.random.default_rng(1)
    samples = [case(rng, number) for number in range(8)]
    for data in samples:
        data["pred_cot"] = [dict(text=s.text, regions=[NAMES[r - 1] for r in s.regions]) for s in data["steps"]]
    perfect = scored(samples, per_region=True)
    assert all(value == pytest.approx(1) for name, value in perfect.items() if "num_" not in name)
    assert perfect[f"{NAMES[0]}/num_pairs"] > 0
    for data in samples:
        data["pred_cot"] = []
    assert all(value == 0 for name, value in scored(samples).items() if name != "num_pairs")


def test_texts_of_a_region_are_joined_in_order():
    steps = [("A. ", (2, 1)), ("B.", (1, 1)), ("C.", ())]
    assert region_texts(steps) == {2: "A.", 1: "A. B."}
    assert paired_region_texts([("X.", {2, 3})], steps) == [(1, "", "A. B."), (2, "X.", "A.")]
    assert all(math.isnan(value) for value in mention_scores(0, 4, 0).values())
    assert mention_scores(0, 0, 4) == {"mention_precision": 0, "mention_recall": 0, "mention_f1": 0}


def test_a_dump_has_the_same_scores():
    """Steps in a dump are plain dicts."""
    rng = np.random.default_rng(2)
    samples = [case(rng, number) for number in range(4)]
    plain = [{**data, "steps": [vars(step) for step in data["steps"]]} for data in samples]
    assert scored(plain) == pytest.approx(scored(samples), nan_ok=True)


def test_rejects_unknown_regions():
    data = {"case_id": "a", "steps": [], "pred_cot": [{"text": "x", "regions": ["elbow"]}]}
    with pytest.raises(ValueError, match="elbow"):
        RegionReportMetric().process(None, [data])
