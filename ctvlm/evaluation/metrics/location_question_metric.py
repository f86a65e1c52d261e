"""Location questions: is a finding present, on which side, in which lobe?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme
from ctvlm.evaluation.functional.location_questions import (
    PairedOrgan,
    finding_sites,
    is_best,
    location_chance,
    location_scores,
    paired_organs,
    side_of_site,
)
from ctvlm.evaluation.functional.report_labels import report_labels
from ctvlm.evaluation.functional.zero_shot import prompt_embeddings, zero_shot_probabilities
from ctvlm.evaluation.functional.zero_shot_protocols import get_protocol
from ctvlm.evaluation.metrics.case_metric import CaseMetric, has_text, step_field, step_regions, to_array
from ctvlm.registry import METRICS
from ctvlm.text.prompts import prompt_texts

TEMPLATES = get_protocol("ctvlm").templates


@METRICS.register_module()
class LocationQuestionMetric(CaseMetric):
    """Accuracy of three questions on each finding, asked in sequence: presence, side, lobe (``location_scores``).

    The answers are sentences; the answer whose embedding fits best is the model's. Presence compares the volume with
    the prompts "present" and "absent" of the protocol ``ctvlm``. The score of a side or lobe is the largest cosine
    similarity between its sentence ("Lung nodule in the right upper lobe.") and its own regions in the volume. With
    ``features="volume"`` all sentences are compared with the volume instead.

    The truth comes from the steps: a finding is present if a step states it (its entities, or without entities the
    findings of ``report_labels`` in its text), and is located by the steps that state it alone. A finding without a
    step is absent. Side and lobe are asked if the answer is unique and at least two answers are in the volume.

    Reads ``pred_volume`` (P) and ``steps``, and for regions ``pred_regions`` (R, P), ``pred_region_mask`` (R).
    ``PromptHook`` sets the embeddings of ``prompts()``.

    Args:
        findings: names of the findings, in any case.
        features: what sides and lobes are compared with.
        scheme: region scheme of the data.
    """

    default_prefix = "location"

    def __init__(
        self,
        findings: Sequence[str],
        features: Literal["region", "volume"] = "region",
        scheme: str = DEFAULT_SCHEME,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(findings, str) or not findings:
            raise ValueError(f"LocationQuestionMetric: found findings={findings!r}; expected a list of names")
        if features not in ("region", "volume"):
            raise ValueError(f"LocationQuestionMetric: found features={features!r}; expected 'region' or 'volume'")
        self.findings, self.features = list(findings), features
        self.scheme = RegionScheme.load(scheme)
        self.organs = paired_organs(self.scheme.names)
        self._embeddings: dict[str, np.ndarray] | None = None

    @property
    def needs(self) -> frozenset[str]:
        regions = {"pred_regions", "pred_region_mask"}
        return frozenset({"pred_volume", "steps"} | (regions if self.features == "region" else set()))

    def prompts(self) -> list[str]:
        """Prompts and answer sentences whose embeddings the metric needs."""
        texts = prompt_texts(self.findings, TEMPLATES)
        for finding in self.findings:
            for organ in self.organs:
                texts += [side_sentence(finding, side, organ) for side in organ.sides]
                texts += [self._lobe_sentence(finding, lobe) for lobe in sorted(organ.lobes)]
        return list(dict.fromkeys(texts))

    def set_prompt_embeddings(self, embeddings: Mapping[str, Any], scale: float = 1.0) -> None:
        """Set the embedding of each prompt (P) in the shared space. The scale has no effect on the answers."""
        self._embeddings = {}
        for text, vector in embeddings.items():
            array = to_array(vector).astype(np.float64)
            self._embeddings[text] = array / np.linalg.norm(array)

    def record(self, sample: dict) -> dict[str, Any] | None:
        if self._embeddings is None:
            raise ValueError(
                "LocationQuestionMetric has no prompt embeddings. Add PromptHook to the hooks, or call "
                "set_prompt_embeddings before the first batch."
            )
        steps = [step for step in sample["steps"] if has_text(step_field(step, "text"))]
        if not steps:
            return None
        sites = finding_sites([stated_findings(step) for step in steps], [step_regions(step) for step in steps])
        volume_P = to_array(sample["pred_volume"]).astype(np.float64)
        features = self._features(sample, volume_P)
        return {
            "answers": np.array([self._answers(f, sites.get(f.lower()), volume_P, features) for f in self.findings])
        }

    def _features(self, sample: dict, volume_P: np.ndarray) -> dict[int, np.ndarray]:
        """Normalised feature of each region in the volume, by id."""
        if self.features == "volume":
            return dict.fromkeys(range(1, self.scheme.num_regions + 1), volume_P / np.linalg.norm(volume_P))
        regions_RP, mask_R = to_array(sample["pred_regions"]), to_array(sample["pred_region_mask"]).astype(bool)
        if len(regions_RP) > self.scheme.num_regions:
            raise ValueError(
                f"LocationQuestionMetric: found {len(regions_RP)} regions; scheme {self.scheme.name!r} has "
                f"{self.scheme.num_regions}. Set scheme= to that of the data."
            )
        rows = regions_RP.astype(np.float64)
        return {int(r) + 1: rows[r] / np.linalg.norm(rows[r]) for r in np.flatnonzero(mask_R)}

    def _answers(
        self, finding: str, site: frozenset[int] | None, volume_P: np.ndarray, features: dict[int, np.ndarray]
    ) -> list[float]:
        """Columns of ``location_scores`` for one finding; ``site`` is None if the finding is absent."""
        assert self._embeddings is not None
        present_P, absent_P = prompt_embeddings(finding, TEMPLATES, self._embeddings)
        probability = zero_shot_probabilities(volume_P[None], present_P[None], absent_P[None])[0, 0]
        right = probability > 0.5 if site is not None else probability < 0.5
        answers = [float(site is not None), float(right), np.nan, np.nan, np.nan]
        for organ in self.organs if site else ():
            if (side := side_of_site(site or (), organ)) is not None:
                answers[2:] = self._side_and_lobe(finding, site or frozenset(), side, organ, features)
        return answers

    def _side_and_lobe(
        self, finding: str, site: frozenset[int], side: str, organ: PairedOrgan, features: dict[int, np.ndarray]
    ) -> list[float]:
        """Whether side and lobe are answered correctly (NaN: not asked), and the chance level of the lobe."""

        def score(sentence: str, regions: Sequence[int]) -> float:
            return max(float(features[region] @ self._embeddings[sentence]) for region in regions)  # type: ignore[index]

        visible = {name: [r for r in regions if r in features] for name, regions in organ.sides.items()}
        if not all(visible.values()):
            return [np.nan] * 3
        sides = {name: score(side_sentence(finding, name, organ), regions) for name, regions in visible.items()}
        lobes = {r: score(self._lobe_sentence(finding, r), [r]) for r in visible[side] if r in organ.lobes}
        correct = site & lobes.keys()
        if not correct or len(correct) == len(lobes):
            return [float(is_best(sides, {side})), np.nan, np.nan]
        return [float(is_best(sides, {side})), float(is_best(lobes, correct)), len(correct) / len(lobes)]

    def _lobe_sentence(self, finding: str, lobe: int) -> str:
        return _sentence(f"{finding} in the {self.scheme[lobe].display_name}")

    def score(self, cases: list[dict[str, Any]]) -> Mapping[str, float | str]:
        def answers(index: np.ndarray) -> np.ndarray:
            return np.concatenate([np.zeros((0, 5)), *(cases[i]["answers"] for i in index)])

        every = answers(np.arange(len(cases)))
        metrics = self.with_intervals(lambda index: location_scores(answers(index)), [c["patient_id"] for c in cases])
        present = every[:, 0] == 1
        counts = dict(
            num_presence=len(every),
            num_present=int(present.sum()),
            num_side=int(np.isfinite(every[:, 2]).sum()),
            num_lobe=int(np.isfinite(every[:, 3]).sum()),
        )
        return {**metrics, **location_chance(every), **counts, "protocol": "ctvlm"}


def side_sentence(finding: str, side: str, organ: PairedOrgan) -> str:
    """Answer to the question for the side, such as "Lung nodule in the right lung."."""
    return _sentence(f"{finding} in the {side} {organ.name}")


def stated_findings(step: Any) -> tuple[str, ...]:
    """Findings that a step states: its entities, or without entities the CT-RATE findings of its text."""
    if step_field(step, "normal"):
        return ()
    entities = tuple(step_field(step, "entities") or ())
    return entities or tuple(name for name, value in report_labels(step_field(step, "text")).items() if value)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
