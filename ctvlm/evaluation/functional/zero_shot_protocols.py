"""Zero-shot classification protocols of the field, by name.

Each protocol states its prompts, findings, threshold rule and scores. Numbers of different protocols cannot be
compared. A protocol covers the scoring only: fVLM compares organ features, other models the whole volume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ctvlm.evaluation.functional.classification import DECISION_SCORES
from ctvlm.evaluation.functional.rad_chestct import max16
from ctvlm.evaluation.functional.zero_shot import Phrases, Template
from ctvlm.text.finding_labels import CT_RATE_LABELS

Fold = Callable[[Sequence[str], np.ndarray, np.ndarray], tuple[list[str], np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Protocol:
    """How a zero-shot classification is scored.

    Attributes:
        templates: sentence pairs (present, absent) with ``{}`` for the finding.
        threshold: a number, or a rule of ``classification.THRESHOLDS``.
        threshold_from: ``test`` fits the rule on the labels it is scored on, as published: optimistic. ``dev`` takes
            thresholds from another split. ``fixed`` is a number.
        scores: what is reported, as the mean over findings.
        source: where the details come from.
        zero_division: precision where nothing is predicted present; NaN leaves the finding out of the mean.
        one_class: also score findings with one class by the decision scores.
        strict: present is a probability above the threshold, not at it.
        by_prevalence: scores that are also averaged with the findings' positives as weights.
        findings: the findings that are scored; None for all that are given.
        phrases: words for a finding in the prompts, where they are not its name.
        fold: merges findings before they are scored, for a data set with other labels.
        scaled: probabilities use the model's logit scale; otherwise the plain cosines.
    """

    name: str
    templates: tuple[Template, ...]
    threshold: float | str
    threshold_from: str
    scores: tuple[str, ...]
    source: str
    zero_division: float = float("nan")
    one_class: bool = False
    strict: bool = False
    by_prevalence: tuple[str, ...] = ()
    findings: tuple[str, ...] | None = None
    phrases: Phrases = field(default_factory=dict)
    fold: Fold | None = None
    scaled: bool = True

    @property
    def threshold_rule(self) -> str:
        """The rule and the split it is fitted on, such as ``grid_corner on test``, or a fixed number."""
        sign = ">" if self.strict else ">="
        if self.threshold_from == "fixed":
            return f"{sign} {self.threshold:g}"
        return f"{sign} {self.threshold} on {self.threshold_from}"

    def select(self, names: Sequence[str]) -> list[str]:
        """Those of the findings that the protocol scores, in the order given."""
        return [name for name in names if self.findings is None or name in self.findings]


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

# The findings of fVLM and HLIP.
FINDINGS_16 = tuple(name for name in CT_RATE_LABELS if name not in ("Medical material", "Lymphadenopathy"))
_FVLM_PHRASES: Mapping[str, tuple[str, str]] = {
    "Atelectasis": ("Atelectatic", "Atelectatic"),
    "Lung nodule": ("Nodule", "Nodule"),
    "Lung opacity": ("Opacity", "Opacity"),
    "Pulmonary fibrotic sequela": ("Pulmonary fibrotic", "Pulmonary fibrotic"),
}
_HLIP_PHRASES: Mapping[str, tuple[str, str]] = {
    **{name: (name, name[0].lower() + name[1:]) for name in FINDINGS_16},
    "Atelectasis": ("Atelectasis", "atelectatic"),
}
_GRID = dict(threshold="grid_corner", threshold_from="test", zero_division=0.0, strict=True)

_CT_CLIP = Protocol(
    "ct_clip",
    _PRESENT,
    scores=("auroc", "f1_weighted", "accuracy", "precision"),
    source="arXiv 2403.17834; github.com/ibrahimethemhamamci/CT-CLIP, scripts/zero_shot.py and bootstrap_values.py",
    **_GRID,
)
_RADFINDER = Protocol(
    "radfinder",
    _ENSEMBLE,
    "youden",
    "test",
    ("auroc", "f1_weighted", "balanced_accuracy", "precision", "recall", "specificity"),
    "github.com/lmb-freiburg/radfinder, src/radfinder/tasks/binary_zs_ctrate_task.py (prompt mode mean7)",
    zero_division=0.0,
    scaled=False,
)
_HLIP = Protocol(
    "hlip",
    (("The volume shows: {}.", "The volume shows: Not {}."),),
    0.5,
    "fixed",
    ("auroc", "balanced_accuracy", "f1_weighted", "recall", "precision"),
    "github.com/zch0414/hlip, src/hlip_test/zeroshot_ct_rate.py (template volume)",
    zero_division=0.0,
    strict=True,
    findings=FINDINGS_16,
    phrases=_HLIP_PHRASES,
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _CT_CLIP,
        replace(_CT_CLIP, name="ct_clip_rad_chestct", fold=max16),
        replace(
            _CT_CLIP,
            name="roc_corner",
            threshold="nearest_corner",
            strict=False,
            source="CT-CLIP's prompts and scores at the exact corner of the ROC curve, free of the logit scale",
        ),
        Protocol(
            "spectre",
            (("{} is present", "{} is not present"),),
            0.5,
            "fixed",
            ("auroc", "f1", "accuracy"),
            "arXiv 2511.17209; github.com/cclaess/SPECTRE, experiments/zero-shot in its history",
            # Present is where the positive prompt has the greater cosine.
            strict=True,
        ),
        _RADFINDER,
        replace(_RADFINDER, name="radfinder_rad_chestct", fold=max16),
        Protocol(
            "fvlm",
            (("{}.", "Not {}."),),
            scores=("auroc", "accuracy", "specificity", "recall", "f1_weighted", "precision"),
            source="github.com/alibaba-damo-academy/fvlm, eval.py and calc_metrics.py",
            findings=FINDINGS_16,
            phrases=_FVLM_PHRASES,
            **_GRID,
        ),
        _HLIP,
        replace(_HLIP, name="hlip_grid", scores=("auroc", "accuracy", "f1_weighted", "recall", "precision"), **_GRID),
        Protocol(
            "vlm3d",
            _PRESENT,
            0.5,
            "fixed",
            ("auroc", "f1", "accuracy", "precision", "recall", "crg"),
            "github.com/forithmus/VLM3D-Dockers, ct_challenges/abnclass_evaluation/calc_scores.py",
            zero_division=0.0,
            one_class=True,
        ),
        Protocol(
            "ctvlm",
            _ENSEMBLE,
            "best_f1",
            "dev",
            ("auroc", "ap", "brier", "ece", *DECISION_SCORES),
            "this project: thresholds from a dev split, one-class findings left out and counted",
            by_prevalence=("auroc", "ap", "f1"),
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {name!r}: expected one of {sorted(PROTOCOLS)}.")
    return PROTOCOLS[name]
