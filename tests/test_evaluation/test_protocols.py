import math

import numpy as np
import pytest
from sklearn import metrics as sk

from ctvlm.evaluation.functional import (
    PROTOCOLS,
    crg_score,
    finding_scores,
    fit_thresholds,
    get_protocol,
    max16,
    prompt_embeddings,
    prompt_texts,
    protocol_scores,
    zero_shot_probabilities,
)
from ctvlm.text.finding_labels import CT_RATE_LABELS

NAN = float("nan")


def labelled(seed=0, cases=60, findings=4):
    rng = np.random.default_rng(seed)
    truth = (rng.random((cases, findings)) < [0.5, 0.3, 0.2, 0.1]).astype(float)
    truth[0], truth[1] = 0, 1
    return truth, np.clip(0.3 * truth + 0.7 * rng.random((cases, findings)), 0, 1)


@pytest.fixture(params=range(0, 200, 50), ids="draws {0}-".format)
def draws(request):
    """200 random data sets in four parts; every finding has both classes."""
    return [labelled(seed) for seed in range(request.param, request.param + 50)]


def rates(truth, predicted):
    """True and false positive rates; ``predicted`` may contain one row per threshold."""
    positives, negatives = truth == 1, truth == 0
    return (predicted & positives).sum(-1) / positives.sum(), (predicted & negatives).sum(-1) / negatives.sum()


def published_grid(truth, probability):
    """CT-CLIP's threshold from its description: 100 values, ``>``, the last of equal minima."""
    grid = np.linspace(0, 1, 100)
    best, distance = 0.0, np.inf
    for threshold, hit, false in zip(grid, *rates(truth, probability > grid[:, None]), strict=True):
        here = math.sqrt((1 - hit) ** 2 + false**2)
        if here <= distance:
            best, distance = threshold, here
    return best


def naive_auroc(truth, score):
    margin = score[truth == 1][:, None] - score[truth == 0][None, :]
    return (margin > 0).mean() + 0.5 * (margin == 0).mean()


def naive_decisions(truth, predicted):
    """Weighted F1, accuracy, precision (0 if nothing is positive) and balanced accuracy."""
    f1 = [2 * (predicted == c)[truth == c].sum() / ((predicted == c).sum() + (truth == c).sum()) for c in (0, 1)]
    weighted = np.average(f1, weights=[(truth == c).sum() for c in (0, 1)])
    hit, false = rates(truth, predicted)
    precision = truth[predicted].mean() if predicted.any() else 0.0
    return weighted, (predicted == truth).mean(), precision, (hit + 1 - false) / 2


def published_ct_clip(truth, probability):
    rows = []
    for t, p in zip(truth.T, probability.T, strict=True):
        rows.append((naive_auroc(t, p), *naive_decisions(t, p > published_grid(t, p))[:3]))
    return dict(zip(("auroc", "f1_weighted", "accuracy", "precision"), np.mean(rows, axis=0), strict=True))


def cosine_draw(seed, scale, ties):
    """Labels, and probabilities from the softmax of two scaled cosines, which have few values if ``ties``."""
    rng = np.random.default_rng(seed)
    cases = int(rng.integers(8, 80))
    truth = (rng.random((cases, 2)) < 0.3).astype(float)
    truth[0], truth[1] = 0, 1
    present = rng.normal(0.05, 0.2, (cases, 2)) + 0.15 * truth
    absent = rng.normal(0, 0.2, (cases, 2))
    if ties:
        present, absent = np.round(present, 1), np.zeros_like(absent)
    logits = np.stack([scale * present, scale * absent])
    powers = np.exp(logits - logits.max(axis=0))
    return truth, powers[0] / powers.sum(axis=0)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("scale", [0.05, 1, 10, 30])
def test_ct_clip_equals_the_published_functions(scale, ties):
    for seed in range(200):
        truth, probability = cosine_draw(seed, scale, ties)
        assert protocol_scores(get_protocol("ct_clip"), truth, probability) == pytest.approx(
            published_ct_clip(truth, probability), abs=1e-6
        )


def test_ct_clip_without_positive_predictions():
    # The positive scores below the negatives: (0, 0) and (1, 1) are equally far; the last threshold is used.
    truth, probability = np.array([[1.0], [0.0], [0.0]]), np.array([[0.2], [0.5], [0.8]])
    assert fit_thresholds(get_protocol("ct_clip"), truth, probability) == [1.0]
    assert protocol_scores(get_protocol("ct_clip"), truth, probability)["precision"] == 0


def test_roc_corner_does_not_depend_on_the_scale():
    truth, cold = cosine_draw(1, 0.05, False)
    hot = 1 / (1 + np.exp(-600 * np.log(cold / (1 - cold))))
    both = [protocol_scores(get_protocol("roc_corner"), truth, p) for p in (cold, hot)]
    assert both[0] == pytest.approx(both[1])
    both = [protocol_scores(get_protocol("ct_clip"), truth, p)["accuracy"] for p in (cold, hot)]
    assert abs(both[0] - both[1]) > 0.01
    fpr, tpr, thresholds = sk.roc_curve(truth[:, 0], cold[:, 0])
    expected = thresholds[np.argmin(np.hypot(fpr, 1 - tpr))]
    assert fit_thresholds(get_protocol("roc_corner"), truth, cold)[0] == expected


def published_radfinder(truth, probability):
    rows = []
    for t, p in zip(truth.T, probability.T, strict=True):
        fpr, tpr, thresholds = sk.roc_curve(t, p)
        best = np.argmax(tpr - fpr)
        predicted = p >= (thresholds[best] if np.isfinite(thresholds[best]) else 0.5)
        f1, _, precision, balanced = naive_decisions(t, predicted)
        rows.append((naive_auroc(t, p), f1, balanced, precision, tpr[best], 1 - fpr[best]))
    names = ("auroc", "f1_weighted", "balanced_accuracy", "precision", "recall", "specificity")
    return dict(zip(names, np.mean(rows, axis=0), strict=True))


@pytest.mark.parametrize("ties", [False, True])
def test_radfinder_equals_the_published_function(ties):
    infinite = 0
    for seed in range(200):
        truth, probability = cosine_draw(seed, 1, ties)
        if seed % 4 == 0:
            truth[:, 0] = np.argsort(np.argsort(probability[:, 0])) < 3  # the positives score lowest
        infinite += np.isinf(fit_thresholds(get_protocol("radfinder"), truth, probability)).sum()
        assert protocol_scores(get_protocol("radfinder"), truth, probability) == pytest.approx(
            published_radfinder(truth, probability), abs=1e-6
        )
    assert infinite > 20


def test_fvlm_and_hlip_have_16_findings_and_their_own_prompts():
    for name, present, absent in (
        ("fvlm", "Nodule.", "Not Nodule."),
        ("hlip", "The volume shows: Lung nodule.", "The volume shows: Not lung nodule."),
    ):
        protocol = get_protocol(name)
        names = protocol.select(CT_RATE_LABELS)
        assert set(CT_RATE_LABELS) - set(names) == {"Medical material", "Lymphadenopathy"}
        assert prompt_texts(["Lung nodule"], protocol.templates, protocol.phrases) == [present, absent]
    truth, probability = cosine_draw(0, 10, False)
    scores = protocol_scores(get_protocol("fvlm"), truth, probability)
    for name, value in published_ct_clip(truth, probability).items():
        assert scores[name] == pytest.approx(value, abs=1e-6)
    assert protocol_scores(get_protocol("hlip"), truth, probability)["balanced_accuracy"] == pytest.approx(
        np.mean([sk.balanced_accuracy_score(t, p > 0.5) for t, p in zip(truth.T, probability.T, strict=True)])
    )


def test_rad_chestct_merges_calcifications_and_has_16_findings():
    rng = np.random.default_rng(0)
    truth, probability = (rng.random((9, 18)) < 0.4).astype(float), rng.random((9, 18))
    names, folded, merged = max16(CT_RATE_LABELS, truth, probability)
    assert len(names) == 16
    assert (merged[:, 1] == np.maximum(probability[:, 1], probability[:, 4])).all()
    assert (folded[:, 1] == np.maximum(truth[:, 1], truth[:, 4])).all()
    kept = [i for i in range(18) if i not in (1, 4, 13)]
    at = [names.index(CT_RATE_LABELS[i]) for i in kept]
    assert (merged[:, at] == probability[:, kept]).all()
    with pytest.raises(ValueError, match="Coronary"):
        max16(CT_RATE_LABELS[:3], truth[:, :3], probability[:, :3])


def test_threshold_rules():
    rules = {name: protocol.threshold_rule for name, protocol in PROTOCOLS.items()}
    assert rules["ct_clip"] == rules["fvlm"] == "> grid_corner on test"
    assert (rules["radfinder"], rules["vlm3d"], rules["ctvlm"]) == (">= youden on test", ">= 0.5", ">= best_f1 on dev")


def test_vlm3d_equals_the_published_steps(draws):
    for truth, probability in draws:
        check_vlm3d(truth.copy(), probability)


def check_vlm3d(truth, probability):
    truth[:, 3] = 0  # one class: F1 is 0, AUROC is excluded
    scores = protocol_scores(get_protocol("vlm3d"), truth, probability)
    predicted = probability >= 0.5
    f1 = [sk.f1_score(t, s, zero_division=0) for t, s in zip(truth.T, predicted.T, strict=True)]
    assert scores["f1"] == pytest.approx(np.mean(f1))
    assert scores["auroc"] == pytest.approx(
        np.mean([sk.roc_auc_score(truth[:, c], probability[:, c]) for c in range(3)])
    )
    assert scores["crg"] == pytest.approx(crg_score(truth, predicted.astype(float)))


def test_spectre_predicts_the_more_similar_prompt():
    truth = np.array([[1.0], [0.0], [0.0]])
    assert protocol_scores(get_protocol("spectre"), truth, np.array([[0.51], [0.5], [0.49]]))["accuracy"] == 1


def test_ctvlm_uses_thresholds_of_the_dev_split():
    protocol = get_protocol("ctvlm")
    truth, probability = labelled(3)
    scores = protocol_scores(protocol, truth, probability)
    assert math.isnan(scores["f1"])
    assert not math.isnan(scores["auroc"])
    dev = labelled(4)
    thresholds = fit_thresholds(protocol, *dev)
    scores = protocol_scores(protocol, truth, probability, thresholds)
    expected = np.mean([sk.f1_score(truth[:, c], probability[:, c] >= thresholds[c]) for c in range(4)])
    assert scores["f1"] == pytest.approx(expected)
    weights = truth.sum(axis=0)
    aurocs = sk.roc_auc_score(truth, probability, average=None)
    assert scores["auroc_prevalence"] == pytest.approx(np.average(aurocs, weights=weights))


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_constant_probabilities_are_not_better_than_chance(name):
    truth, _ = labelled(5)
    scores = protocol_scores(get_protocol(name), truth, np.full(truth.shape, 0.5), np.full(4, 0.5))
    assert scores["auroc"] == 0.5
    assert scores.get("balanced_accuracy", 0.5) <= 0.5


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_findings_without_labels_are_excluded(name):
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


def test_unknown_protocol():
    with pytest.raises(ValueError, match="ct_clip"):
        get_protocol("clip")


def test_published_prompts():
    names = CT_RATE_LABELS[:2]
    assert prompt_texts(names, get_protocol("ct_clip").templates)[:2] == [
        "Medical material is present.",
        "Medical material is not present.",
    ]
    ensemble = prompt_texts(names, get_protocol("radfinder").templates)
    assert len(ensemble) == 2 * 13  # seven pairs; two have the same positive prompt
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


def test_ensemble_is_the_normalised_mean_of_normalised_embeddings():
    templates = (("{}.", "No {}."), ("{} is seen.", "{} is not seen."))
    embeddings = {"X.": [2.0, 0], "X is seen.": [0, 5.0], "No X.": [-1.0, 0], "X is not seen.": [-3.0, 0]}
    present, absent = prompt_embeddings("X", templates, {k: np.array(v) for k, v in embeddings.items()})
    assert present == pytest.approx([math.sqrt(0.5)] * 2)
    assert absent == pytest.approx([-1, 0])
    with pytest.raises(ValueError, match="No Y"):
        prompt_embeddings("Y", templates, {"Y.": np.ones(2), "Y is seen.": np.ones(2)})


def naive_crg(truth, predicted):
    x, a = truth.size, truth.sum()
    tp, fn, fp = (truth * predicted).sum(), (truth * (1 - predicted)).sum(), ((1 - truth) * predicted).sum()
    r, u = (x - a) / (2 * a), (x - a) / 2
    return u / (2 * u - (r * tp - r * fn - fp))


def test_crg_equals_its_formula():
    rng = np.random.default_rng(0)
    for _ in range(200):
        truth = (rng.random((int(rng.integers(1, 9)), 18)) < 0.2).astype(float)
        truth[0, :2] = 0, 1
        predicted = rng.integers(0, 2, truth.shape).astype(float)
        assert crg_score(truth, predicted) == pytest.approx(naive_crg(truth, predicted), abs=1e-9)
    assert crg_score(truth, truth) == pytest.approx(1)
    assert crg_score(truth, 1 - truth) == pytest.approx(1 / 5)
    assert crg_score(truth, 0 * truth) == crg_score(truth, 0 * truth + 1) == pytest.approx(1 / 3)


def test_crg_is_undefined_without_positives_and_zero_without_negatives():
    assert math.isnan(crg_score(np.zeros(18), np.zeros(18)))
    assert crg_score(np.ones(18), np.ones(18)) == crg_score(np.ones(18), np.zeros(18)) == 0  # as in the challenge
    assert crg_score(np.array([1, 0, NAN]), np.array([1, 0, 1])) == 1
    with pytest.raises(ValueError, match="0 and 1"):
        crg_score(np.array([1, 0]), np.array([0.3, 0.4]))
