"""Report and reasoning text to steps; the one place where text without explicit steps becomes ``cot``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ctvlm.anatomy import MentionLexicon
from ctvlm.text import plain_sentences
from ctvlm.utils.placeholders import is_missing

STEP = re.compile(r"(?:^|\n|(?<=[.!?;:])\s)\s*[*#]*\s*step\s*\d+\s*[*]*\s*[:：.)\-–]+\s*[*]*\s*", re.IGNORECASE)
TAG = re.compile(r"<(/?)([a-z_]+)>", re.IGNORECASE)
REPORT_PART = re.compile(r"\b(findings?|impressions?|conclusions?)\s*:", re.IGNORECASE)


def clean(text: str | None) -> str:
    """Text with single blanks, "" where it is a placeholder such as "Not given."."""
    return "" if is_missing(text) else " ".join(text.split())


def explicit_steps(text: str) -> list[str]:
    """The texts behind "Step 1: ... Step 2: ...", with what stands before them; [] where there are fewer than two."""
    if len(STEP.findall(text)) < 2:
        return []
    return [step for part in STEP.split(text) if (step := " ".join(part.split()))]


def text_steps(
    text: str,
    lexicon: MentionLexicon,
    *,
    question: str | None = None,
    within: Sequence[int] | None = None,
    entities: Iterable[str] = (),
) -> list[dict]:
    """Manifest steps of a text: its explicit steps, else its sentences, with the regions that each names.

    Args:
        question: what the text answers; kept in every step as its context. A sentence that names no region is about
            those that the question names.
        within: ids of the regions that the text is known to be about: a sentence that names some of them is about
            those, one that names none of them is about all.
        entities: findings looked for; a step keeps those whose name occurs in it.
    """
    known = set(within) if within is not None else set(lexicon.regions_in(question or ""))
    steps = []
    for part in explicit_steps(text) or plain_sentences(text):
        named = set(lexicon.regions_in(part))
        ids = (named & known or known) if within is not None else (named or known)
        step = dict(
            step=len(steps) + 1,
            text=part,
            entities=[name for name in entities if name and name.lower() in part.lower()],
            regions=[lexicon.scheme.name_of(i) for i in sorted(ids)],
            lesion=None,
        )
        steps.append({**step, "question": question} if question else step)
    return steps


def number(steps: list[dict]) -> list[dict]:
    """The same steps, counted from 1; a step said before (same question, text and lesion) is left out."""
    seen, out = set(), []
    for step in steps:
        key = (step.get("question"), step["text"], step.get("lesion"))
        if key not in seen:
            seen.add(key)
            out.append({**step, "step": len(out) + 1})
    return out


def tagged(text: str) -> dict[str, str]:
    """Contents of ``<task>...<observation>...``, by tag in lower case; a tag that is never closed ends at the next."""
    parts: dict[str, str] = {}
    open_tag, start = None, 0
    for match in [*TAG.finditer(text), None]:
        end = match.start() if match else len(text)
        if open_tag and (content := text[start:end].strip()):
            parts[open_tag] = f"{parts[open_tag]}\n{content}" if open_tag in parts else content
        if match:
            open_tag, start = (None if match[1] else match[2].lower()), match.end()
    return parts


def split_report(text: str) -> dict[str, str]:
    """``findings`` and ``impression`` of a report written as one text with headings; {} without a heading."""
    marks = list(REPORT_PART.finditer(text or ""))
    report: dict[str, str] = {}
    for mark, after in zip(marks, [*marks[1:], None]):
        name = "findings" if mark[1].lower().startswith("finding") else "impression"
        part = clean(text[mark.end() : after.start() if after else None])
        report[name] = f"{report[name]} {part}" if name in report else part
    return {name: part for name, part in report.items() if part}
