"""The sentences of a case that have opposites."""

from __future__ import annotations

from typing import NamedTuple

from ctvlm.structures import CoTStep, CTDataSample
from ctvlm.text.opposites import Opposite, opposites


class OppositeSentence(NamedTuple):
    """Index and text of a step, and its opposites."""

    step: int
    text: str
    opposites: list[Opposite]


def opposite_sentences(sample: CTDataSample) -> list[OppositeSentence]:
    """The steps that have opposites.

    An opposite that another step states is left out. So is the swapped side of a step that states that regions are
    normal, and of a finding that another step names too: both can be true.
    """
    stated = {step.text for step in sample.steps}
    found = []
    for number, step in enumerate(sample.steps):
        others = sample.steps[:number] + sample.steps[number + 1 :]
        one_side = not step.normal and not any(_elsewhere(step, other) for other in others)
        kept = [
            opposite
            for opposite in opposites(step.text)
            if opposite.text not in stated and (one_side or opposite.kind != "laterality")
        ]
        if kept:
            found.append(OppositeSentence(number, step.text, kept))
    return found


def _elsewhere(step: CoTStep, other: CoTStep) -> bool:
    """Whether the other step names a finding of the step at another place. A summary includes the step's place."""
    return bool(other.regions and set(step.entities) & set(other.entities)) and not set(step.regions) <= set(
        other.regions
    )
