"""Questions on a finding in sequence: is it present, on which side, in which lobe?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctvlm.evaluation.functional.protocols import mean_defined

SIDES = ("right", "left")
_LOBE_WORDS = frozenset(("upper", "middle", "lower", "lobe"))
# Columns of the answers: truth of presence, then whether each answer is right (NaN: not asked), and chance of the lobe.
PRESENT, PRESENCE, SIDE, LOBE, LOBE_CHANCE = range(5)


@dataclass(frozen=True)
class PairedOrgan:
    """Regions of an organ with two sides.

    Attributes:
        name: in sentences, such as "lung".
        sides: ids of the regions (from 1) of "right" and of "left".
        lobes: ids of the regions that are lobes.
    """

    name: str
    sides: Mapping[str, tuple[int, ...]]
    lobes: frozenset[int]

    @property
    def regions(self) -> frozenset[int]:
        """Ids of both sides."""
        return frozenset(region for ids in self.sides.values() for region in ids)


def paired_organs(region_names: Sequence[str]) -> list[PairedOrgan]:
    """Organs with regions on both sides, from names such as ``lung_upper_lobe_right`` and ``kidney_left``."""
    sides: dict[str, dict[str, list[int]]] = {}
    lobes: set[int] = set()
    for region, name in enumerate(region_names, start=1):
        words = name.split("_")
        side = next((side for side in SIDES if side in words), None)
        if side is None:
            continue
        organ = " ".join(word for word in words if word != side and word not in _LOBE_WORDS)
        sides.setdefault(organ, {side: [] for side in SIDES})[side].append(region)
        lobes |= {region} if "lobe" in words else set()
    return [
        PairedOrgan(
            name,
            {side: tuple(ids) for side, ids in found.items()},
            frozenset(lobes.intersection(found[SIDES[0]] + found[SIDES[1]])),
        )
        for name, found in sides.items()
        if all(found.values())
    ]


def finding_sites(findings: Iterable[Collection[str]], regions: Iterable[Collection[int]]) -> dict[str, frozenset[int]]:
    """Regions of each finding (lower case) of a case, from its steps.

    A step with several findings does not tell which of them is where: they are present, without a region.

    Args:
        findings: findings that each step states.
        regions: ids of the regions that each step mentions.
    """
    sites: dict[str, frozenset[int]] = {}
    for names, mentioned in zip(findings, regions, strict=True):
        found = frozenset(mentioned) if len(set(names)) == 1 else frozenset()
        for name in {name.lower() for name in names}:
            sites[name] = sites.get(name, frozenset()) | found
    return sites


def is_best(scores: Mapping[str, float] | Mapping[int, float], correct: Collection) -> bool:
    """Whether a correct answer has the highest score; a tie with a wrong one is wrong."""
    right = [score for answer, score in scores.items() if answer in correct]
    wrong = [score for answer, score in scores.items() if answer not in correct]
    return bool(right) and max(right) > max(wrong, default=-np.inf)


def side_of_site(site: Collection[int], organ: PairedOrgan) -> str | None:
    """The only side of an organ in which a finding is; None if it is on both, on neither, or in another region."""
    sides = [side for side, regions in organ.sides.items() if set(regions) & set(site)]
    return sides[0] if len(sides) == 1 and set(site) <= organ.regions else None


def location_scores(answers_Q5: np.ndarray) -> dict[str, float]:
    """Accuracy of each stage, of each stage given the right answers before, and of the chain.

    - ``presence_accuracy``: mean of sensitivity and specificity over all questions, so that "no" to every question
      scores 0.5.
    - ``side_accuracy``, ``lobe_accuracy``: over the present findings with a known answer, asked with the true answers
      of the stages before.
    - ``side_given_presence``, ``lobe_given_side``: the same over those whose stages before were answered correctly.
    - ``chain_accuracy``: share of the lobe questions with all three answers right.

    The order of the questions is that of DCP-PD. Its questions are answered with text; the scores here are not
    comparable. A value without questions is NaN.

    Args:
        answers_Q5: one row per case and finding, with the columns of this module.
    """
    rows = np.asarray(answers_Q5, dtype=np.float64).reshape(-1, 5)
    present = rows[:, PRESENT] == 1
    right = rows[:, PRESENCE] == 1
    chain = right & (rows[:, SIDE] == 1) & (rows[:, LOBE] == 1)
    asked = present & np.isfinite(rows[:, LOBE])
    sensitivity, specificity = (mean_defined(rows[mask, PRESENCE]) for mask in (present, ~present))
    return {
        "presence_accuracy": (sensitivity + specificity) / 2,
        "side_accuracy": mean_defined(rows[present, SIDE]),
        "side_given_presence": mean_defined(rows[present & right, SIDE]),
        "lobe_accuracy": mean_defined(rows[asked, LOBE]),
        "lobe_given_side": mean_defined(rows[asked & right & (rows[:, SIDE] == 1), LOBE]),
        "chain_accuracy": mean_defined(chain[asked].astype(np.float64)),
    }


def location_chance(answers_Q5: np.ndarray) -> dict[str, float]:
    """Expected values of ``location_scores`` for random answers; NaN for a stage without questions."""
    rows = np.asarray(answers_Q5, dtype=np.float64).reshape(-1, 5)
    scores = location_scores(rows)
    lobe = mean_defined(rows[np.isfinite(rows[:, LOBE]), LOBE_CHANCE])
    expected = {"presence_accuracy": 0.5, "side_accuracy": 0.5, "lobe_accuracy": lobe, "chain_accuracy": lobe / 4}
    return {f"{name}_chance": value if np.isfinite(scores[name]) else float("nan") for name, value in expected.items()}
