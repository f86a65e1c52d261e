"""Scores of generated reports against references.

METEOR is not included: nltk downloads WordNet for it, and the reference implementation needs Java. sacrebleu and
rouge-score are imported inside functions, because their import takes a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Literal

import numpy as np

from ctvlm.text import is_latin, words
from ctvlm.utils import check_choice

ROUGE = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}


def bleu(predictions: Sequence[str], references: Sequence[str], max_order: int = 4) -> dict[str, float]:
    """Corpus ``BLEU-1`` to ``BLEU-4`` (0 to 1) with one reference per report, 13a tokens and add-one smoothing.

    One is added to the matches and totals of all orders including unigrams, as in Hugging Face ``evaluate``'s
    ``bleu(smooth=True)``, which Reg2RG and others report. (Lin and Och, COLING 2004, do not smooth unigrams.)
    sacrebleu counts the n-grams. Case-sensitive.

    All NaN without reports. An empty prediction adds its reference to the brevity penalty; the score is 0 if all
    predictions are empty.
    """
    return bleu_of_counts(bleu_counts(predictions, references, max_order).sum(axis=0), len(references))


def bleu_counts(predictions: Sequence[str], references: Sequence[str], max_order: int = 4) -> np.ndarray:
    """Counts of each report that corpus BLEU sums: matches and totals of each order, both lengths (N, 2 orders + 2).

    BLEU of a resample is computed from the sum of its rows, without tokenising again. A report whose reference is not
    in Latin script is tokenised by ``ctvlm.text.words``, because 13a treats a Chinese sentence as one token.
    """
    from sacrebleu.metrics import BLEU

    _check_reports(predictions, references)
    latin, other = (
        BLEU(tokenize=tokenizer, smooth_method="none", max_ngram_order=max_order) for tokenizer in ("13a", "none")
    )
    rows = np.zeros((len(references), 2 * max_order + 2))
    for row, prediction, reference in zip(rows, predictions, references, strict=True):
        if is_latin(reference):
            score = latin.corpus_score([prediction], [[reference]])
        else:
            score = other.corpus_score([" ".join(words(prediction))], [[" ".join(words(reference))]])
        row[:] = *score.counts, *score.totals, score.sys_len, score.ref_len
    return rows


def bleu_of_counts(counts: np.ndarray, reports: int) -> dict[str, float]:
    """``bleu`` from the sum of the rows of ``bleu_counts``; all NaN if the number of reports is 0."""
    orders = (len(counts) - 2) // 2
    if not reports:
        return {f"BLEU-{n}": float("nan") for n in range(1, orders + 1)}
    matches, totals, (length, reference_length) = counts[:orders], counts[orders:-2], counts[-2:]
    # The limit of the brevity penalty for length 0 is 0.
    penalty = min(1.0, np.exp(1 - reference_length / length)) if length else 0.0
    logs = np.log((matches + 1) / (totals + 1))
    return {f"BLEU-{n}": float(penalty * np.exp(logs[:n].mean())) for n in range(1, orders + 1)}


def rouge(
    predictions: Sequence[str], references: Sequence[str], aggregate: Literal["mean", "bootstrap"] = "mean"
) -> dict[str, float]:
    """``ROUGE-1``, ``ROUGE-2`` and ``ROUGE-L`` F1 (0 to 1) by rouge-score, without stemming.

    All NaN without reports. The score is 0 if one of the two texts is empty.

    Args:
        aggregate: ``mean`` over reports, or ``bootstrap``: the median of 1,000 resampled means with seed 42. Hugging
            Face ``evaluate`` returns the latter by default, and papers report it as "overall"; it differs from the mean
            by up to 0.002.
    """
    check_choice("rouge", "aggregate", aggregate, ("mean", "bootstrap"))
    _check_reports(predictions, references)
    if not references:
        return dict.fromkeys(ROUGE, float("nan"))
    scores = rouge_per_report(predictions, references)
    if aggregate == "mean":
        return {name: float(values.mean()) for name, values in scores.items()}
    # As in the aggregator of rouge-score: one draw of report indices per resample, in the order of one generator.
    rng = np.random.RandomState(42)
    medians = {}
    for name, values in scores.items():
        means = [values[rng.choice(np.arange(len(values)), size=len(values))].mean() for _ in range(1000)]
        medians[name] = float(np.percentile(means, 50))
    return medians


def rouge_per_report(predictions: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """ROUGE F1 of each report (N).

    A report whose reference is not in Latin script is tokenised by ``ctvlm.text.words``, because rouge-score's own
    tokenizer keeps only a-z and 0-9.
    """
    from rouge_score.rouge_scorer import RougeScorer

    _check_reports(predictions, references)
    latin = RougeScorer(list(ROUGE.values()), use_stemmer=False)
    other = RougeScorer(list(ROUGE.values()), tokenizer=SimpleNamespace(tokenize=words))
    scores = [
        (latin if is_latin(reference) else other).score(reference, text)
        for reference, text in zip(references, predictions, strict=True)
    ]
    return {name: np.array([score[key].fmeasure for score in scores]) for name, key in ROUGE.items()}


def clinical_scores(truth_NC: np.ndarray, predicted_NC: np.ndarray) -> dict[str, float]:
    """Micro, macro and positive-weighted averages of precision, recall and F1 of the findings that reports state.

    Macro and weighted averages include the findings that are present in at least one reference; the precision of a
    finding that is never predicted is 0. All NaN if no reference states a finding.

    Args:
        truth_NC, predicted_NC: labels of the references and of the generated reports by the same labeller: 1, 0 or NaN.
            Labels that are NaN in either array are ignored.

    Raises:
        ValueError: the arrays differ in shape or are not two-dimensional.
    """
    truth, predicted = np.asarray(truth_NC, dtype=np.float64), np.asarray(predicted_NC, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise ValueError(f"Labels have shapes {truth.shape} and {predicted.shape}; expected (reports, findings).")
    known = ~(np.isnan(truth) | np.isnan(predicted))
    present, stated = known & (truth == 1), known & (predicted == 1)
    # Computed from counts: scikit-learn's functions do not accept NaN and take 50 ms per bootstrap resample.
    tp, predictions, positives = ((present & stated).sum(axis=0), stated.sum(axis=0), present.sum(axis=0))
    kinds = ("precision", "recall", "f1")
    if not positives.any():
        return {f"{kind}_{mean}": float("nan") for mean in ("micro", "macro", "weighted") for kind in kinds}

    def scores(tp: np.ndarray, predictions: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, ...]:
        return (tp / np.maximum(predictions, 1), tp / np.maximum(positives, 1), 2 * tp / (predictions + positives))

    some = positives > 0
    by_finding = scores(tp[some], predictions[some], positives[some])
    overall = scores(tp.sum(), predictions.sum(), positives.sum())
    results = {f"{kind}_micro": float(value) for kind, value in zip(kinds, overall, strict=True)}
    results |= {f"{kind}_macro": float(values.mean()) for kind, values in zip(kinds, by_finding, strict=True)}
    weights = positives[some]
    return results | {
        f"{kind}_weighted": float(np.average(values, weights=weights))
        for kind, values in zip(kinds, by_finding, strict=True)
    }


def _check_reports(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references):
        raise ValueError(
            f"Found {len(predictions)} predictions and {len(references)} references; expected equal numbers."
        )
    for text in (*predictions, *references):
        if not isinstance(text, str):
            raise ValueError(f"Found {text!r} among the reports; expected text (an empty report is '').")
