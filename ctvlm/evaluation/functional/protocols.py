"""Zero-shot classification protocols of the field, by name.

Published tables of one model differ by more than ten points because these details differ. Each protocol states its
prompts, where its thresholds come from, which scores it reports, and what it does with a finding that has one class
only. Numbers of different protocols are never comparable.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctvlm.evaluation.functional.calibration import brier_score, expected_calibration_error
from ctvlm.evaluation.functional.classification import (
    DECISION_SCORES,
    THRESHOLDS,
    auroc,
    average_precision,
    decision_scores,
)
from ctvlm.evaluation.functional.crg import crg_score
from ctvlm.evaluation.functional.zero_shot import Template


@dataclass(frozen=True)
class Protocol:
    """How a zero-shot classification is scored.

    Attributes:
        templates: sentence pairs (present, absent) with ``{}`` for the finding.
        threshold: a number, or a rule of ``classification.THRESHOLDS``.
        threshold_from: ``test`` fits the rule on the very labels it is scored on, as published: optimistic.
            ``dev`` takes thresholds from another split.
        scores: what is reported, as the mean over findings.
        undefined: value of a decision score that a finding with one class leaves undefined; NaN leaves the finding out.
        source: where the details come from.
        strict: present is a probability above the threshold, not at it.
        by_prevalence: scores that are also averaged with the findings' positives as weights.
    """

    name: str
    templates: tuple[Template, ...]
    threshold: float | str
    threshold_from: str
    scores: tuple[str, ...]
    undefined: float
    source: str
    strict: bool = False
    by_prevalence: tuple[str, ...] = ()


_PRESENT: tuple[Template, ...] = (("{} is present.", "{} is not present."),)
_ENSEMBLE: tuple[Template, ...] = (
    ("{}.", "No {}."),
    ("Findings are compatible with {}.", "Findings are not compatible with {}."),
    ("There is {}.", "There is no {}."),
    ("{} is seen.", "{} is not seen."),
    ("{}.", "Not {}."),
    ("{} is observed.", "{} is not observed."),
    ("{} is present.", "{} is not present."),
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "ct_clip",
            _PRESENT,
            "nearest_corner",
            "test",
            ("auroc", "f1_weighted", "accuracy", "precision"),
            float("nan"),
            "Hamamci et al., arXiv 2403.17834; github.com/ibrahimethemhamamci/CT-CLIP, scripts/zero_shot.py",
        ),
        Protocol(
            "spectre",
            (("{} is present", "{} is not present"),),
            0.5,
            "fixed",
            ("auroc", "f1", "accuracy"),
            float("nan"),
            # A prediction is "present" where its cosine is the greater one, which is a probability above 0.5.
            "Claessens et al., arXiv 2511.17209; github.com/cclaess/SPECTRE, experiments/zero-shot",
            strict=True,
        ),
        Protocol(
            "radfinder",
            _ENSEMBLE,
            "youden",
            "test",
            ("auroc", "f1_weighted", "balanced_accuracy", "precision", "recall", "specificity"),
            float("nan"),
            "github.com/lmb-freiburg/radfinder, src/radfinder/tasks/binary_zs_ctrate_task.py (prompt mode mean7)",
        ),
        Protocol(
            "vlm3d",
            _PRESENT,
            0.5,
            "fixed",
            ("auroc", "f1", "accuracy", "precision", "recall", "crg"),
            0.0,
            "github.com/forithmus/VLM3D-Dockers, ct_challenges/abnclass_evaluation/calc_scores.py",
        ),
        Protocol(
            "ctvlm",
            _ENSEMBLE,
            "best_f1",
            "dev",
            ("auroc", "ap", "brier", "ece", *DECISION_SCORES),
            float("nan"),
            "this project: thresholds from a dev split, one-class findings left out and counted",
            by_prevalence=("auroc", "ap", "f1"),
        ),
    )
}

# Scores that need no threshold.
_THRESHOLD_FREE = {
    "auroc": auroc,
    "ap": average_precision,
    "brier": brier_score,
    "ece": expected_calibration_error,
}


def get_protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {name!r}: expected one of {sorted(PROTOCOLS)}.")
    return PROTOCOLS[name]


def fit_thresholds(protocol: Protocol, truth_NC: np.ndarray, probability_NC: np.ndarray) -> np.ndarray:
    """Threshold of each finding by the protocol's rule (C); NaN for a finding with one class only."""
    if not isinstance(protocol.threshold, str):
        return np.full(truth_NC.shape[1], float(protocol.threshold))
    rule = THRESHOLDS[protocol.threshold]
    return np.array([rule(t, p) for t, p in zip(truth_NC.T, probability_NC.T, strict=True)])


def finding_scores(
    protocol: Protocol, truth_NC: np.ndarray, probability_NC: np.ndarray, thresholds_C: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Each reported score of each finding (C).

    Args:
        truth_NC: 1, 0, NaN (null).
        probability_NC: probability of presence.
        thresholds_C: thresholds from a dev split; a protocol that takes them from there has NaN for the scores that
            need them where there are none. Protocols with thresholds of their own ignore them.
    """
    if protocol.threshold_from != "dev":
        thresholds_C = fit_thresholds(protocol, truth_NC, probability_NC)
    elif thresholds_C is None:
        thresholds_C = np.full(truth_NC.shape[1], np.nan)
    scores: dict[str, list[float]] = {name: [] for name in protocol.scores if name != "crg"}
    for truth, probability, threshold in zip(truth_NC.T, probability_NC.T, thresholds_C, strict=True):
        decided = dict.fromkeys(DECISION_SCORES, float("nan"))
        if not np.isnan(threshold):
            present = probability > threshold if protocol.strict else probability >= threshold
            decided = decision_scores(truth, present.astype(float), protocol.undefined)
        for name in scores:
            value = _THRESHOLD_FREE[name](truth, probability) if name in _THRESHOLD_FREE else decided[name]
            scores[name].append(value)
    return {name: np.array(values) for name, values in scores.items()}


def protocol_scores(
    protocol: Protocol, truth_NC: np.ndarray, probability_NC: np.ndarray, thresholds_C: np.ndarray | None = None
) -> dict[str, float]:
    """The protocol's scores, each the mean over the findings for which it is defined; NaN where there are none.

    ``<score>_prevalence`` weights findings by their positives instead. Arguments as in
    ``finding_scores``.
    """
    by_finding = finding_scores(protocol, truth_NC, probability_NC, thresholds_C)
    positives = np.nansum(truth_NC, axis=0)
    scores = {name: mean_defined(values) for name, values in by_finding.items()}
    for name in protocol.by_prevalence:
        scores[f"{name}_prevalence"] = mean_defined(by_finding[name], positives)
    if "crg" in protocol.scores:
        known = ~np.isnan(truth_NC)
        scores["crg"] = crg_score(truth_NC[known], (probability_NC[known] >= protocol.threshold).astype(float))
    return scores


def mean_defined(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean of the values that are not NaN; NaN where there are none, or none has weight."""
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    keep = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[keep], weights=weights[keep])) if keep.any() else float("nan")


def thresholds_for(names: Sequence[str], thresholds: Mapping[str, float | None]) -> np.ndarray:
    """Thresholds in the order of the findings (C); NaN, with a warning, for a finding that has none."""
    missing = [name for name in names if thresholds.get(name) is None]
    if missing:
        warnings.warn(
            f"No threshold for {', '.join(missing)}: their threshold-dependent scores are left out.", stacklevel=2
        )
    return np.array([np.nan if thresholds.get(name) is None else float(thresholds[name]) for name in names])
