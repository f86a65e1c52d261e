"""Scores of a constant report: the baseline for generated reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctvlm.evaluation.functional.report_generation import bleu, clinical_scores

MAX_CANDIDATES, MAX_REFERENCES = 50, 200


def constant_report(references: Sequence[str]) -> str:
    """The reference with the highest BLEU-4 when it is used as the report of every case.

    Compares up to 50 evenly spaced references on up to 200 references; '' without references.
    """
    candidates = _evenly_spaced(sorted(set(references)), MAX_CANDIDATES)
    scored = _evenly_spaced(sorted(references), MAX_REFERENCES)
    return max(candidates, key=lambda text: bleu([text] * len(scored), scored)["BLEU-4"], default="")


def constant_reports(references: Sequence[str]) -> list[str]:
    """A constant report for each case, selected without the case's own reference.

    The even and the odd cases are two halves, and each half gets the best report of the other half. A report selected
    on the references that it is scored on would be one of them, and the best of many: with 100 cases this raises BLEU-4
    by 0.01 to 0.03.
    """
    halves = references[0::2], references[1::2]
    best = constant_report(halves[1]), constant_report(halves[0])
    return [best[case % 2] for case in range(len(references))]


def constant_clinical_scores(truth_NC: np.ndarray) -> dict[str, float]:
    """``clinical_scores`` if every report states the same set of findings; each average uses the set with the best F1.

    The candidate sets are the 1, 2, ... most frequent findings. Without unknown labels no other set has a better micro
    F1, and the set of all findings is the best for the other averages.

    Args:
        truth_NC: labels of the references: 1, 0 or NaN (unknown).
    """
    truth = np.asarray(truth_NC, dtype=np.float64)
    known = (~np.isnan(truth)).sum(axis=0)
    share_C = np.nansum(truth, axis=0) / np.maximum(known, 1)
    order = np.argsort(-share_C, kind="stable")
    candidates = []
    for count in range(1, truth.shape[1] + 1):
        predicted_NC = np.zeros_like(truth)
        predicted_NC[:, order[:count]] = 1
        candidates.append(clinical_scores(truth, predicted_NC))
    best = {mean: max(candidates, key=lambda scores: scores[f"f1_{mean}"]) for mean in ("micro", "macro", "weighted")}
    return {name: best[name.rpartition("_")[2]][name] for name in candidates[0]}


def _evenly_spaced(items: Sequence[str], number: int) -> list[str]:
    """Up to ``number`` evenly spaced items."""
    if not items:
        return []
    index = np.unique(np.linspace(0, len(items) - 1, min(number, len(items))).round().astype(int))
    return [items[i] for i in index]
