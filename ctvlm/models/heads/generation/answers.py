"""Target text of a generation head: steps with their regions, then the conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ctvlm.structures import CTDataSample


@dataclass
class WrittenStep:
    """One step of reasoning and the ids of its regions (1..R)."""

    text: str
    regions: tuple[int, ...] = ()


@dataclass
class Answer:
    """Steps in order and the impression that follows from them, with the question that they answer (may be empty)."""

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


def answers_of(sample: CTDataSample) -> list[Answer]:
    """The answers of a case, one per question in order of first appearance; at least one.

    Steps without a question form an answer of their own. The impression belongs to that answer, or to the last answer
    if every step has a question.
    """
    answers: dict[str, Answer] = {}
    for step in sample.steps:
        answer = answers.setdefault(step.question, Answer(step.question))
        answer.steps.append(WrittenStep(step.text, tuple(sorted(step.regions))))
    if not answers:
        answers[""] = Answer()
    concluding = answers.get("", list(answers.values())[-1])
    concluding.impression = sample.impression
    return list(answers.values())


def join_answers(answers: Sequence[Answer]) -> Answer:
    """All answers of a case as one, without their questions."""
    steps = [step for answer in answers for step in answer.steps]
    return Answer(steps=steps, impression=" ".join(answer.impression for answer in answers if answer.impression))
