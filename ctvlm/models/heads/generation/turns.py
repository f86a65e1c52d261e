"""What a head learns to write: steps that name their regions, then the conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ctvlm.structures import CTDataSample


@dataclass
class WrittenStep:
    """One step of reasoning and the ids of the regions that it names (1..R)."""

    text: str
    regions: tuple[int, ...] = ()


@dataclass
class Turn:
    """One answer: an optional question, the steps in their order, the impression that they lead to."""

    question: str = ""
    steps: list[WrittenStep] = field(default_factory=list)
    impression: str = ""

    @property
    def is_empty(self) -> bool:
        return not self.steps and not self.impression

    @property
    def text(self) -> str:
        """The steps, then the impression."""
        return " ".join(part for part in [*(step.text for step in self.steps), self.impression] if part)


def turns_of(sample: CTDataSample) -> list[Turn]:
    """The turns of a case: the steps of each question together, in order of first mention; at least one.

    Steps without a question are a turn of their own. The impression concludes it, or the last turn where every step
    answers a question.
    """
    turns: dict[str, Turn] = {}
    for step in sample.steps:
        turn = turns.setdefault(step.question, Turn(step.question))
        turn.steps.append(WrittenStep(step.text, tuple(sorted(step.regions))))
    if not turns:
        turns[""] = Turn()
    concluding = turns.get("", list(turns.values())[-1])
    concluding.impression = sample.impression
    return list(turns.values())


def joined(turns: Sequence[Turn]) -> Turn:
    """All turns of a case as one, without their questions."""
    steps = [step for turn in turns for step in turn.steps]
    return Turn(steps=steps, impression=" ".join(turn.impression for turn in turns if turn.impression))
