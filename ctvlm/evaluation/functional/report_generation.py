"""Scores of generated reports against references.

METEOR is not here: nltk's needs WordNet downloaded, the reference implementation Java; neither works offline.
sacrebleu and rouge-score are imported where they are used: they take a second that no other metric should pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Literal

import numpy as np

from ctvlm.text import is_latin, words

ROUGE = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}


def bleu(predictions: Sequence[str], references: Sequence[str], max_order: int = 4) -> dict[str, float]:
    """Corpus ``BLEU-1`` to ``BLEU-4`` (0 to 1), one reference each, 13a tokens, +1-smoothed.

    One is added to the matches and to the total of every order, one-grams included (Lin and Och, COLING 2004, whose
    rule leaves one-grams alone; Hugging Face ``evaluate``'s ``bleu(smooth=True)``, by which Reg2RG and others publish,
    does not). sacrebleu counts the n-grams. Case matters.

    All NaN without reports. An empty prediction counts with its whole reference against the brevity penalty; all of
    them empty gives 0, the limit of that penalty.
    """
    return bleu_of_counts(bleu_counts(predictions, references, max_order).sum(axis=0), len(references))


def bleu_counts(predictions: Sequence[str], references: Sequence[str], max_order: int = 4) -> np.ndarray:
    """What corpus BLEU adds up, of each report: matches and totals of each order, both lengths (N, 2 orders + 2).

    A resample of reports is then a sum of rows, and no text is read again. A report whose reference is not in Latin
    script is split by ``ctvlm.text.words``, as 13a takes a whole Chinese sentence for one token.
    """
    from sacrebleu.metrics import BLEU

    _same_number(predictions, references)
    settings = dict(smooth_method="none", max_ngram_order=max_order)
    latin, other = BLEU(tokenize="13a", **settings), BLEU(tokenize="none", **settings)
    rows = np.zeros((len(references), 2 * max_order + 2))
    for row, said, reference in zip(rows, predictions, references, strict=True):
        if is_latin(reference):
            counted = latin.corpus_score([said], [[reference]])
        else:
            counted = other.corpus_score([" ".join(words(said))], [[" ".join(words(reference))]])
        row[:] = *counted.counts, *counted.totals, counted.sys_len, counted.ref_len
    return rows


def bleu_of_counts(counts: np.ndarray, reports: int) -> dict[str, float]:
    """``bleu`` from the sum of rows of ``bleu_counts`` over so many reports; all NaN without reports."""
    orders = (len(counts) - 2) // 2
    if not reports:
        return {f"BLEU-{n}": float("nan") for n in range(1, orders + 1)}
    matches, totals, (said, reference) = counts[:orders], counts[orders:-2], counts[-2:]
    # Nothing said is nothing right: the limit of the brevity penalty.
    penalty = min(1.0, np.exp(1 - reference / said)) if said else 0.0
    logs = np.log((matches + 1) / (totals + 1))
    return {f"BLEU-{n}": float(penalty * np.exp(logs[:n].mean())) for n in range(1, orders + 1)}


def rouge(
    predictions: Sequence[str], references: Sequence[str], aggregate: Literal["mean", "bootstrap"] = "mean"
) -> dict[str, float]:
    """``ROUGE-1``, ``ROUGE-2`` and ``ROUGE-L`` F1 (0 to 1) by rouge-score, without stemmer.

    Args:
        aggregate: ``mean`` over reports. ``bootstrap`` is the median of 1,000 resampled means, seed 42, which Hugging
            Face ``evaluate`` gives by default and papers print as "overall" (it differs by up to 0.002 from the mean).

    All NaN without reports; a report against an empty text scores 0.
    """
    _same_number(predictions, references)
    if not references:
        return dict.fromkeys(ROUGE, float("nan"))
    scores = rouge_per_report(predictions, references)
    if aggregate == "mean":
        return {name: float(values.mean()) for name, values in scores.items()}
    if aggregate != "bootstrap":
        raise ValueError(f"Unknown aggregate={aggregate!r}: expected 'mean' or 'bootstrap'.")
    # The aggregator of rouge-score: one draw of report indices per resample, in the order of the global generator.
    rng = np.random.RandomState(42)
    middle = {}
    for name, values in scores.items():
        draws = [values[rng.choice(np.arange(len(values)), size=len(values))].mean() for _ in range(1000)]
        middle[name] = float(np.percentile(draws, 50))
    return middle


def rouge_per_report(predictions: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """ROUGE F1 of each report (N).

    A report whose reference is not in Latin script is split by ``ctvlm.text.words``: rouge-score's own tokenizer
    keeps a-z and 0-9 only, so that nothing would be left.
    """
    from rouge_score.rouge_scorer import RougeScorer

    _same_number(predictions, references)
    latin = RougeScorer(list(ROUGE.values()), use_stemmer=False)
    other = RougeScorer(list(ROUGE.values()), tokenizer=SimpleNamespace(tokenize=words))
    scores = [
        (latin if is_latin(reference) else other).score(reference, text)
        for reference, text in zip(references, predictions, strict=True)
    ]
    return {name: np.array([score[key].fmeasure for score in scores]) for name, key in ROUGE.items()}


def clinical_scores(truth_NC: np.ndarray, predicted_NC: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of the findings that reports state, micro, macro and weighted by positives.

    Args:
        truth_NC, predicted_NC: labels of the reference and of the generated report (by one labeller): 1, 0, NaN.
            A label that is null on either side counts nowhere.

    Macro and weighted run over findings present in some reference. Precision of a finding never stated is 0 in them
    (all its positives were missed). All NaN where no reference states any finding.
    """
    truth, predicted = np.asarray(truth_NC, dtype=np.float64), np.asarray(predicted_NC, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise ValueError(f"Labels of shapes {truth.shape} and {predicted.shape}: expected one (reports, findings).")
    known = ~(np.isnan(truth) | np.isnan(predicted))
    present, said = known & (truth == 1), known & (predicted == 1)
    # From the counts: scikit-learn's functions take no null, and 50 ms per resample of an interval.
    found, stated, positives = ((present & said).sum(axis=0), said.sum(axis=0), present.sum(axis=0))
    kinds = ("precision", "recall", "f1")
    if not positives.any():
        return {f"{kind}_{mean}": float("nan") for mean in ("micro", "macro", "weighted") for kind in kinds}

    def scores(found: np.ndarray, stated: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, ...]:
        # Nothing found scores 0, whatever it is a share of.
        return (found / np.maximum(stated, 1), found / np.maximum(positives, 1), 2 * found / (stated + positives))

    some = positives > 0
    by_finding = scores(found[some], stated[some], positives[some])
    overall = scores(found.sum(), stated.sum(), positives.sum())
    results = {f"{kind}_micro": float(value) for kind, value in zip(kinds, overall, strict=True)}
    results |= {f"{kind}_macro": float(values.mean()) for kind, values in zip(kinds, by_finding, strict=True)}
    weights = positives[some]
    return results | {
        f"{kind}_weighted": float(np.average(values, weights=weights))
        for kind, values in zip(kinds, by_finding, strict=True)
    }


def _same_number(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions and {len(references)} references: expected one of each.")
    for text in (*predictions, *references):
        if not isinstance(text, str):
            raise ValueError(f"Found {text!r} among the reports: expected text (an empty report is '').")
