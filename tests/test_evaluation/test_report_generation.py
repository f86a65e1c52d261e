import csv
import math

import numpy as np
import pytest
from rouge_score import rouge_scorer, scoring
from sacrebleu.metrics import BLEU
from sklearn import metrics as sk

from ctvlm.evaluation.functional import bleu, clinical_scores, rouge, rouge_per_report
from ctvlm.evaluation.functional.report_labels import report_labels

WORDS = "no effusion, pleural nodule (5 mm) right left lung lobe is seen. Heart enlarged; normal".split()


def reports(rng, number):
    return [" ".join(rng.choice(WORDS, rng.integers(1, 20))) for _ in range(number)]


@pytest.mark.parametrize("region", ["breast", "thyroid"])
def test_equals_published_scores(shared_data, region):
    folder = shared_data / "text" / "reg2rg"
    with open(folder / f"{region}_reports.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with open(folder / "published_nlg_metrics.csv", newline="", encoding="utf-8") as file:
        published = next(row for row in csv.DictReader(file) if row["region"] == region)
    predictions, references = ([row[key] for row in rows] for key in ("Pred_combined_report", "GT_combined_report"))
    for name, value in bleu(predictions, references).items():
        assert f"{value:.4f}" == published[f"Overall_{name}"]
    for name, value in rouge(predictions, references, aggregate="bootstrap").items():
        assert f"{value:.4f}" == published[f"Overall_{name}"]
    for name, value in rouge(predictions, references).items():
        assert f"{value:.4f}" == published[name].split("±")[0]


def test_bleu_equals_sacrebleu():
    rng = np.random.default_rng(0)
    oracle = BLEU(tokenize="13a", smooth_method="add-k", smooth_value=1)
    for _ in range(200):
        predictions, references = reports(rng, 4), reports(rng, 4)
        expected = oracle.corpus_score(predictions, [references])
        # Smoothing changes the counts that sacrebleu reports.
        plain = BLEU(tokenize="13a", smooth_method="none").corpus_score(predictions, [references])
        counts, totals = np.array(plain.counts), np.array(plain.totals)
        scores = bleu(predictions, references)
        for order in range(1, 5):
            naive = expected.bp * np.exp(np.log((counts[:order] + 1) / (totals[:order] + 1)).mean())
            assert scores[f"BLEU-{order}"] == pytest.approx(naive, abs=1e-9)
        # sacrebleu does not smooth unigrams.
        ratio = (counts[0] / totals[0] / ((counts[0] + 1) / (totals[0] + 1))) ** 0.25
        assert scores["BLEU-4"] * ratio == pytest.approx(expected.score / 100, abs=1e-6)


def test_rouge_equals_rouge_score():
    rng = np.random.default_rng(1)
    names = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
    scorer = rouge_scorer.RougeScorer(list(names.values()))
    predictions, references = reports(rng, 200), reports(rng, 200)
    per_report = rouge_per_report(predictions, references)
    aggregator = scoring.BootstrapAggregator()
    for i, (predicted, reference) in enumerate(zip(predictions, references, strict=True)):
        expected = scorer.score(reference, predicted)
        aggregator.add_scores(expected)
        assert all(per_report[name][i] == expected[key].fmeasure for name, key in names.items())
    state = np.random.get_state()  # noqa: NPY002 (the aggregator draws from the global generator)
    np.random.seed(42)  # noqa: NPY002
    middle = {name: aggregator.aggregate()[key].mid.fmeasure for name, key in list(names.items())[:1]}
    np.random.set_state(state)  # noqa: NPY002
    assert rouge(predictions, references, "bootstrap")["ROUGE-1"] == pytest.approx(middle["ROUGE-1"], abs=1e-9)
    assert rouge(predictions, references)["ROUGE-L"] == pytest.approx(per_report["ROUGE-L"].mean())


def test_equal_texts_score_one_in_any_order():
    texts = reports(np.random.default_rng(2), 6)
    assert all(value == pytest.approx(1) for value in (bleu(texts, texts) | rouge(texts, texts)).values())
    other = reports(np.random.default_rng(3), 6)
    order = [3, 1, 0, 5, 4, 2]
    assert bleu(texts, other) == pytest.approx(bleu([texts[i] for i in order], [other[i] for i in order]))


def test_empty_reports():
    assert bleu(["", ""], ["a b c", "d"])["BLEU-1"] == 0
    assert rouge(["", "a b"], ["a b", "a b"])["ROUGE-1"] == 0.5
    assert bleu(["", "a b c d e"], ["f", "a b c d e"])["BLEU-1"] < 1
    assert all(math.isnan(value) for value in (bleu([], []) | rouge([], [])).values())
    with pytest.raises(ValueError, match="None"):
        bleu([None], ["a"])
    with pytest.raises(ValueError, match="1 .* 2 "):
        rouge(["a"], ["a", "b"])


def test_clinical_scores_equal_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(200):
        truth, predicted = rng.integers(0, 2, (2, 8, 5)).astype(float)
        truth[0] = 1  # scikit-learn's macro average includes findings without positives
        scores = clinical_scores(truth, predicted)
        for mean in ("micro", "macro", "weighted"):
            expected = sk.precision_recall_fscore_support(truth, predicted, average=mean, zero_division=0)
            got = [scores[f"{kind}_{mean}"] for kind in ("precision", "recall", "f1")]
            assert got == pytest.approx(expected[:3], abs=1e-9)


def test_clinical_scores_without_labels_are_nan():
    assert all(math.isnan(value) for value in clinical_scores(np.zeros((3, 2)), np.ones((3, 2))).values())
    truth = np.array([[1, np.nan], [0, np.nan], [1, np.nan]])
    assert clinical_scores(truth, np.array([[1, 1], [0, 1], [np.nan, 1.0]]))["f1_macro"] == 1


@pytest.mark.parametrize(
    ("text", "similar"),
    [
        ("右肺上叶见结节，肝脏正常。", "右肺下叶见结节，肝脏正常。"),
        ("右肺に結節を認める。肝臓は正常です。", "左肺に結節を認める。肝臓は正常です。"),
        ("우폐에 결절이 있다. 간은 정상이다.", "좌폐에 결절이 있다. 간은 정상이다."),
        ("Узел в правом лёгком, печень в норме.", "Узел в левом лёгком, печень в норме."),
    ],
)
def test_other_scripts_are_scored(text, similar):
    same, other = bleu([text], [text]) | rouge([text], [text]), bleu([similar], [text]) | rouge([similar], [text])
    assert all(value == pytest.approx(1) for value in same.values())
    assert 0.5 < other["ROUGE-L"] < 1 and 0.5 < other["BLEU-1"] < 1
    assert set(report_labels(text).values()) == {None}
