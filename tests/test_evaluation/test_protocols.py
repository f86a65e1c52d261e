import math

import numpy as np
import pytest
from sklearn import metrics as sk

from ctvlm.evaluation import CT_RATE_LABELS
from ctvlm.evaluation.functional import (
    PROTOCOLS,
    crg_score,
    finding_scores,
    fit_thresholds,
    get_protocol,
    prompt_embeddings,
    prompt_texts,
    protocol_scores,
    zero_shot_probabilities,
)

NAN = float("nan")


def labelled(seed=0, cases=60, findings=4):
    rng = np.random.default_rng(seed)
    truth = (rng.random((cases, findings)) < [0.5, 0.3, 0.2, 0.1]).astype(float)
    truth[0], truth[1] = 0, 1
    return truth, np.clip(0.3 * truth + 0.7 * rng.random((cases, findings)), 0, 1)


@pytest.fixture(params=range(0, 200, 50), ids="draws {0}-".format)
def draws(request):
    """200 draws in four parts; every finding has both classes."""
    return [labelled(seed) for seed in range(request.param, request.param + 50)]


def test_ct_clip_is_its_published_steps(draws):
    for truth, probability in draws:
        check_ct_clip(truth, probability)


def check_ct_clip(truth, probability):
    scores = protocol_scores(get_protocol("ct_clip"), truth, probability)
    f1, accuracy = [], []
    for t, p in zip(truth.T, probability.T, strict=True):
        fpr, tpr, thresholds = sk.roc_curve(t, p)
        said = p >= thresholds[np.argmin(np.hypot(fpr, 1 - tpr))]
        f1.append(sk.f1_score(t, said, average="weighted"))
        accuracy.append(sk.accuracy_score(t, said))
    assert scores["f1_weighted"] == pytest.approx(np.mean(f1))
    assert scores["accuracy"] == pytest.approx(np.mean(accuracy))
    assert scores["auroc"] == pytest.approx(sk.roc_auc_score(truth, probability, average="macro"))
    assert set(scores) == {"auroc", "f1_weighted", "accuracy", "precision"}


def test_radfinder_is_its_published_steps(draws):
    for truth, probability in draws:
        check_radfinder(truth, probability)


def check_radfinder(truth, probability):
    scores = protocol_scores(get_protocol("radfinder"), truth, probability)
    balanced, sensitivity = [], []
    for t, p in zip(truth.T, probability.T, strict=True):
        fpr, tpr, thresholds = sk.roc_curve(t, p)
        best = np.argmax(tpr - fpr)
        balanced.append(sk.balanced_accuracy_score(t, p >= thresholds[best]))
        sensitivity.append(tpr[best])
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(balanced))
    assert scores["recall"] == pytest.approx(np.mean(sensitivity))


def test_vlm3d_is_its_published_steps(draws):
    for truth, probability in draws:
        check_vlm3d(truth.copy(), probability)


def check_vlm3d(truth, probability):
    truth[:, 3] = 0  # one class: F1 counts as 0, AUROC is left out
    scores = protocol_scores(get_protocol("vlm3d"), truth, probability)
    said = probability >= 0.5
    f1 = [sk.f1_score(t, s, zero_division=0) for t, s in zip(truth.T, said.T, strict=True)]
    assert scores["f1"] == pytest.approx(np.mean(f1))
    assert scores["auroc"] == pytest.approx(
        np.mean([sk.roc_auc_score(truth[:, c], probability[:, c]) for c in range(3)])
    )
    assert scores["crg"] == pytest.approx(crg_score(truth, said.astype(float)))


def test_spectre_says_present_where_the_positive_prompt_is_nearer():
    truth = np.array([[1.0], [0.0], [0.0]])
    assert protocol_scores(get_protocol("spectre"), truth, np.array([[0.51], [0.5], [0.49]]))["accuracy"] == 1


def test_our_thresholds_never_come_from_the_scored_split():
    protocol = get_protocol("ctvlm")
    truth, probability = labelled(3)
    alone = protocol_scores(protocol, truth, probability)
    assert math.isnan(alone["f1"])
    assert not math.isnan(alone["auroc"])
    dev = labelled(4)
    thresholds = fit_thresholds(protocol, *dev)
    scores = protocol_scores(protocol, truth, probability, thresholds)
    expected = np.mean([sk.f1_score(truth[:, c], probability[:, c] >= thresholds[c]) for c in range(4)])
    assert scores["f1"] == pytest.approx(expected)
    weights = truth.sum(axis=0)
    aurocs = sk.roc_auc_score(truth, probability, average=None)
    assert scores["auroc_prevalence"] == pytest.approx(np.average(aurocs, weights=weights))


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_constant_probabilities_never_beat_chance(name):
    truth, _ = labelled(5)
    scores = protocol_scores(get_protocol(name), truth, np.full(truth.shape, 0.5), np.full(4, 0.5))
    assert scores["auroc"] == 0.5
    assert scores.get("balanced_accuracy", 0.5) <= 0.5


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_findings_of_one_class_do_not_count(name):
    truth, probability = labelled(6)
    with_empty = np.column_stack([truth, np.full(len(truth), NAN)])
    values = np.column_stack([probability, probability[:, 0]])
    protocol = get_protocol(name)
    thresholds = np.full(4, 0.5)
    for key, score in protocol_scores(protocol, truth, probability, thresholds).items():
        again = protocol_scores(protocol, with_empty, values, np.append(thresholds, 0.5))[key]
        assert again == pytest.approx(score, nan_ok=True)
    by_finding = finding_scores(protocol, with_empty, values, np.append(thresholds, 0.5))
    assert all(np.isnan(scores[-1]) for scores in by_finding.values())


def test_unknown_protocol_names_the_known():
    with pytest.raises(ValueError, match="ct_clip"):
        get_protocol("clip")


def test_prompts_are_the_published_sentences():
    names = CT_RATE_LABELS[:2]
    assert prompt_texts(names, get_protocol("ct_clip").templates)[:2] == [
        "Medical material is present.",
        "Medical material is not present.",
    ]
    ensemble = prompt_texts(names, get_protocol("radfinder").templates)
    assert len(ensemble) == 2 * 13  # seven pairs, of which two share a positive
    assert "There is no Arterial wall calcification." in ensemble


def test_probability_is_the_softmax_of_two_cosines():
    rng = np.random.default_rng(0)
    for _ in range(200):
        image, present, absent = rng.normal(size=(3, 4, 6))
        present, absent = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (present, absent))
        scale = rng.uniform(1, 100)
        got = zero_shot_probabilities(image, present, absent, scale)
        for n in range(4):
            unit = image[n] / np.linalg.norm(image[n])
            for c in range(4):
                a, b = scale * unit @ present[c], scale * unit @ absent[c]
                assert got[n, c] == pytest.approx(1 / (1 + np.exp(b - a)), abs=1e-9)


def test_ensemble_is_the_unit_mean_of_unit_embeddings():
    templates = (("{}.", "No {}."), ("{} is seen.", "{} is not seen."))
    embeddings = {"X.": [2.0, 0], "X is seen.": [0, 5.0], "No X.": [-1.0, 0], "X is not seen.": [-3.0, 0]}
    present, absent = prompt_embeddings("X", templates, {k: np.array(v) for k, v in embeddings.items()})
    assert present == pytest.approx([math.sqrt(0.5)] * 2)
    assert absent == pytest.approx([-1, 0])
    with pytest.raises(ValueError, match="No Y"):
        prompt_embeddings("Y", templates, {"Y.": np.ones(2), "Y is seen.": np.ones(2)})


def naive_crg(truth, said):
    x, a = truth.size, truth.sum()
    tp, fn, fp = (truth * said).sum(), (truth * (1 - said)).sum(), ((1 - truth) * said).sum()
    r, u = (x - a) / (2 * a), (x - a) / 2
    return u / (2 * u - (r * tp - r * fn - fp))


def test_crg_equals_its_formula():
    rng = np.random.default_rng(0)
    for _ in range(200):
        truth = (rng.random((int(rng.integers(1, 9)), 18)) < 0.2).astype(float)
        truth[0, :2] = 0, 1
        said = rng.integers(0, 2, truth.shape).astype(float)
        assert crg_score(truth, said) == pytest.approx(naive_crg(truth, said), abs=1e-9)
    assert crg_score(truth, truth) == pytest.approx(1)
    assert crg_score(truth, 1 - truth) == pytest.approx(1 / 5)
    assert crg_score(truth, 0 * truth) == crg_score(truth, 0 * truth + 1) == pytest.approx(1 / 3)


def test_crg_without_positives_or_negatives_is_undefined():
    assert math.isnan(crg_score(np.zeros(18), np.zeros(18)))
    assert math.isnan(crg_score(np.ones(18), np.ones(18)))
    assert crg_score(np.array([1, 0, NAN]), np.array([1, 0, 1])) == 1
    with pytest.raises(ValueError, match="threshold"):
        crg_score(np.array([1, 0]), np.array([0.3, 0.4]))
