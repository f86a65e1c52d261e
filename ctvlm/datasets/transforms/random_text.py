"""The same report in another order, or with less said."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from ctvlm.registry import TRANSFORMS
from ctvlm.text import split_sentences


@TRANSFORMS.register_module()
class ShuffleSentences:
    """Shuffle the sentences inside each reasoning step with probability ``p``; steps keep their order.

    Sentences that lean on the one before ("It measures ...") are kept behind it.
    """

    LEANING = re.compile(r"(?:It|They|This|These|Its|Their|The former|The latter|Both)\b")

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, results: dict) -> dict:
        if not results.get("cot"):
            return results
        return {**results, "cot": [{**step, "text": self._shuffled(step["text"])} for step in results["cot"]]}

    def _shuffled(self, text: str) -> str:
        groups: list[list[str]] = []
        for sentence in split_sentences(text):
            if groups and self.LEANING.match(sentence):
                groups[-1].append(sentence)
            else:
                groups.append([sentence])
        if len(groups) < 2 or torch.rand(()).item() >= self.p:
            return text
        return " ".join(s for i in torch.randperm(len(groups)).tolist() for s in groups[i])


@TRANSFORMS.register_module()
class DropSections:
    """Leave out reasoning steps, and sections of the report, at random.

    Args:
        step_p: probability of each step to go; one always stays.
        section_p: probability of each section to go.
        sections: of the report, that may go. The impression is what a case is matched with, so it stays by default.
    """

    def __init__(self, step_p: float = 0.1, section_p: float = 0.1, sections: Sequence[str] = ("findings",)) -> None:
        self.step_p, self.section_p, self.sections = step_p, section_p, tuple(sections)

    def __call__(self, results: dict) -> dict:
        out = {**results}
        steps = results.get("cot") or []
        if steps:
            drawn = torch.rand(len(steps))
            kept = [step for step, draw in zip(steps, drawn.tolist()) if draw >= self.step_p]
            out["cot"] = kept or [steps[int(drawn.argmax())]]
        if results.get("report"):
            drawn = torch.rand(len(self.sections)).tolist()
            gone = {name for name, draw in zip(self.sections, drawn) if draw < self.section_p}
            out["report"] = {key: text for key, text in results["report"].items() if key not in gone}
        return out
