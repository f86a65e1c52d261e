"""Published zero-shot classification protocols.

A protocol defines prompts, findings, threshold rule and scores. Numbers of different protocols cannot be compared. A
protocol does not define the image feature: fVLM compares organ features, other models the whole volume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ctvlm.evaluation.functional.classification import DECISION_SCORES
from ctvlm.evaluation.functional.rad_chestct import max16
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.text.prompts import ENSEMBLE_TEMPLATES, PRESENT_TEMPLATES, Phrases, Template

Fold = Callable[[Sequence[str], np.ndarray, np.ndarray], tuple[list[str], np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Protocol:
    """A zero-shot classification protocol.

    Attributes:
        templates: pairs of prompts (present, absent) with ``{}`` for the finding.
        threshold: a number, or a rule of ``classification.THRESHOLDS``.
        threshold_from: ``test`` fits the rule to the scored labels, as published, which is optimistic. ``dev`` takes
            thresholds from another split. ``fixed`` is for a number.
        scores: reported scores, averaged over findings.
        source: publication or code that defines the protocol.
        zero_division: precision without positive predictions; NaN excludes the finding from the mean.
        one_class: also compute decision scores for findings with one class.
        strict: positive is probability > threshold instead of >=.
        by_prevalence: scores that are also averaged with the number of positives as weights.
        findings: scored findings; None for all.
        phrases: wording of findings in the prompts, if it is not their name.
        fold: merges findings before scoring, for a data set with other labels.
        scaled: use the model's logit scale for the probabilities instead of plain cosine similarities.
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
        """Rule and split, such as ``> grid_corner on test``, or a fixed number."""
        sign = ">" if self.strict else ">="
        if self.threshold_from == "fixed":
            return f"{sign} {self.threshold:g}"
        return f"{sign} {self.threshold} on {self.threshold_from}"

    def select(self, names: Sequence[str]) -> list[str]:
        """The given findings that the protocol scores, in order."""
        return [name for name in names if self.findings is None or name in self.findings]


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
# CT-CLIP's threshold rule.
_GRID: dict[str, Any] = dict(threshold="grid_corner", threshold_from="test", zero_division=0.0, strict=True)

_CT_CLIP = Protocol(
    "ct_clip",
    PRESENT_TEMPLATES,
    scores=("auroc", "f1_weighted", "accuracy", "precision"),
    source="arXiv 2403.17834; github.com/ibrahimethemhamamci/CT-CLIP, scripts/zero_shot.py and bootstrap_values.py",
    **_GRID,
)
_RADFINDER = Protocol(
    "radfinder",
    ENSEMBLE_TEMPLATES,
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
            source="CT-CLIP's prompts and scores at the exact corner of the ROC curve, independent of the logit scale",
        ),
        Protocol(
            "spectre",
            (("{} is present", "{} is not present"),),
            0.5,
            "fixed",
            ("auroc", "f1", "accuracy"),
            "arXiv 2511.17209; github.com/cclaess/SPECTRE, experiments/zero-shot in its history",
            # Positive means that the positive prompt has the greater cosine similarity.
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
            PRESENT_TEMPLATES,
            0.5,
            "fixed",
            ("auroc", "f1", "accuracy", "precision", "recall", "crg"),
            "github.com/forithmus/VLM3D-Dockers, ct_challenges/abnclass_evaluation/calc_scores.py",
            zero_division=0.0,
            one_class=True,
        ),
        Protocol(
            "ctvlm",
            ENSEMBLE_TEMPLATES,
            "best_f1",
            "dev",
            ("auroc", "ap", "brier", "ece", *DECISION_SCORES),
            "this project: thresholds from a dev split, findings with one class excluded and counted",
            by_prevalence=("auroc", "ap", "f1"),
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {name!r}; expected one of {sorted(PROTOCOLS)}.")
    return PROTOCOLS[name]
