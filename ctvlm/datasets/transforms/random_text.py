"""Random changes of report and reasoning text."""

from __future__ import annotations

import re

import torch

from ctvlm.registry import TRANSFORMS
from ctvlm.text import split_sentences


@TRANSFORMS.register_module()
class ShuffleSentences:
    """Shuffle the sentences inside each reasoning step with probability ``p``; steps keep their order.

    Sentences that refer to the previous one ("It measures ...") stay after it.

    Args:
        p: probability.
    """

    REFERRING = re.compile(r"(?:It|They|This|These|Its|Their|The former|The latter|Both)\b")

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, results: dict) -> dict:
        if not results.get("cot"):
            return results
        return {**results, "cot": [{**step, "text": self._shuffle(step["text"])} for step in results["cot"]]}

    def _shuffle(self, text: str) -> str:
        groups: list[list[str]] = []
        for sentence in split_sentences(text):
            if groups and self.REFERRING.match(sentence):
                groups[-1].append(sentence)
            else:
                groups.append([sentence])
        if len(groups) < 2 or torch.rand(()).item() >= self.p:
            return text
        return " ".join(s for i in torch.randperm(len(groups)).tolist() for s in groups[i])


@TRANSFORMS.register_module()
class DropSections:
    """Drop reasoning steps and the findings of the report at random. The impression is kept, because losses use it.

    Args:
        step_p: probability of dropping each step; at least one step remains.
        section_p: probability of dropping the findings.
    """

    def __init__(self, step_p: float = 0.1, section_p: float = 0.1) -> None:
        self.step_p, self.section_p = step_p, section_p

    def __call__(self, results: dict) -> dict:
        out = {**results}
        steps = results.get("cot") or []
        if steps:
            random = torch.rand(len(steps))
            kept = [step for step, value in zip(steps, random.tolist()) if value >= self.step_p]
            out["cot"] = kept or [steps[int(random.argmax())]]
        if results.get("report") and torch.rand(()).item() < self.section_p:
            out["report"] = {key: text for key, text in results["report"].items() if key != "findings"}
        return out
