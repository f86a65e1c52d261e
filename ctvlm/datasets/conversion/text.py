"""Conversion of report and reasoning text to the ``cot`` steps of a manifest."""

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
    """Normalize white space. Placeholders such as "Not given." and None become ""."""
    return "" if text is None or is_missing(text) else " ".join(text.split())


def explicit_steps(text: str) -> list[str]:
    """Split "Step 1: ... Step 2: ..."; text before the first step is kept. Returns [] for fewer than two steps."""
    if len(STEP.findall(text)) < 2:
        return []
    return [step for part in STEP.split(text) if (step := " ".join(part.split()))]


def text_steps(
    text: str,
    lexicon: MentionLexicon,
    *,
    question: str | None = None,
    stage: str | None = None,
    within: Sequence[int] | None = None,
    entities: Iterable[str] = (),
) -> list[dict]:
    """Split a text into manifest steps: its explicit steps, otherwise its sentences, with the mentioned regions.

    Args:
        question: question that the text answers; stored in every step. A sentence that mentions no region gets the
            regions of the question.
        stage: stage of the chain that the text belongs to; stored in every step.
        within: ids of the regions that the text describes, if known. A sentence is assigned to those that it mentions,
            or to all of them if it mentions none of them.
        entities: names of findings; each step keeps those that occur in it.
    """
    known = set(within) if within is not None else set(lexicon.regions_in(question or ""))
    steps: list[dict] = []
    for part in explicit_steps(text) or plain_sentences(text):
        mentioned = set(lexicon.regions_in(part))
        ids = (mentioned & known or known) if within is not None else (mentioned or known)
        step = dict(
            step=len(steps) + 1,
            text=part,
            entities=[name for name in entities if name and name.lower() in part.lower()],
            regions=[lexicon.scheme.name_of(i) for i in sorted(ids)],
            lesion=None,
        )
        optional = {"question": question, "stage": stage}
        steps.append({**step, **{key: value for key, value in optional.items() if value}})
    return steps


def number_steps(steps: list[dict]) -> list[dict]:
    """Number steps from 1 and remove duplicates (equal question, text and lesion), also of another stage."""
    seen: set[tuple] = set()
    out: list[dict] = []
    for step in steps:
        key = (step.get("question"), step["text"], step.get("lesion"))
        if key not in seen:
            seen.add(key)
            out.append({**step, "step": len(out) + 1})
    return out


def tagged(text: str) -> dict[str, str]:
    """Parse ``<task>...<observation>...`` into contents by lower-case tag. An unclosed tag ends at the next tag."""
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
    """Split a report with headings into ``findings`` and ``impression``; returns {} if there is no heading."""
    marks = list(REPORT_PART.finditer(text or ""))
    report: dict[str, str] = {}
    for mark, after in zip(marks, [*marks[1:], None]):
        name = "findings" if mark[1].lower().startswith("finding") else "impression"
        part = clean(text[mark.end() : after.start() if after else None])
        report[name] = f"{report[name]} {part}" if name in report else part
    return {name: part for name, part in report.items() if part}
