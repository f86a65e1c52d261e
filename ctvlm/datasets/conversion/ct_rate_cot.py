"""Chain-of-thought text on CT-RATE's volumes: the plain question/answer form, CT-RATE-Thinking, CORTEX.

All are records that name a volume, ask a question and answer it; they differ in their keys, which are known by name:

- ``{"volumename", "question", "answer"}``;
- CT-RATE-Thinking: ``image, task_type, report, question, thinking, answer``;
- CORTEX: a text with ``<task> <observation> <reason> <answer>`` in it, also inside ``conversations``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ctvlm.anatomy import MentionLexicon
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.ct_rate import CTRate
from ctvlm.datasets.conversion.ct_rate_files import parse_name
from ctvlm.datasets.conversion.tables import first_of, read_records
from ctvlm.datasets.conversion.text import clean, number, split_report, tagged, text_steps
from ctvlm.utils import natural_key

VOLUME = ("volumename", "VolumeName", "volume_name", "volume", "image", "image_path", "id")
QUESTION = ("question", "instruction", "prompt")
THINKING = ("thinking", "reasoning", "cot", "rationale")
ANSWER = ("answer", "response", "output")
# CORTEX: what is seen and concluded is reasoning; the task restates the question.
REASONING_TAGS = ("observation", "reason", "reasoning", "think", "thinking")
TERSE = 4  # words: a shorter answer is kept together with its question


def cot_files(paths: Iterable[Path]) -> list[Path]:
    """The files given, and all .json and .jsonl files in the folders given (and in their ``data/``)."""
    files: list[Path] = []
    for path in map(Path, paths):
        inside = [*path.glob("*"), *path.glob("data/*")] if path.is_dir() else [path]
        inside = sorted(p for p in inside if p.suffix.lower() in (".json", ".jsonl"))
        files += inside
        if not inside or not (path.is_dir() or path.is_file()):
            raise FileNotFoundError(f"{path}: no .json or .jsonl file; expected question/answer records")
    return files


def read_turn(record: dict) -> dict[str, str]:
    """``volume, question, thinking, answer, report`` of a record, "" where it has none.

    Raises:
        ConversionError: it names no volume, or says nothing; tells the keys that it has.
    """
    turn = record.get("conversations") or record.get("messages") or []
    said = [str(first_of(t, ("value", "content")) or "") for t in turn if isinstance(t, dict)]
    roles = [str(first_of(t, ("from", "role")) or "").lower() for t in turn if isinstance(t, dict)]
    asked = next((s for s, r in zip(said, roles) if r in ("human", "user")), "")
    told = next((s for s, r in zip(said, roles) if r in ("gpt", "assistant")), "")
    volume = first_of(record, VOLUME)
    volume = volume[0] if isinstance(volume, list) else volume
    question = str(first_of(record, QUESTION) or asked).replace("<image>", "").strip()
    thinking, answer = str(first_of(record, THINKING) or ""), str(first_of(record, ANSWER) or told)
    parts = tagged(answer) or tagged(thinking)
    if parts:
        thinking = "\n".join([parts[tag] for tag in REASONING_TAGS if tag in parts])
        answer = parts.get("answer", "")
        question = question or parts.get("task", "")
    if volume is None or not (thinking or answer):
        raise ConversionError(
            f"a record has the keys {sorted(record)}; expected a volume under one of {', '.join(VOLUME)} and text "
            f"under one of {', '.join((*ANSWER, *THINKING))} or in 'conversations'"
        )
    report = str(record.get("report") or "")
    return dict(volume=str(volume), question=question, thinking=thinking, answer=answer, report=report)


def turn_steps(turn: dict[str, str], lexicon: MentionLexicon) -> list[dict]:
    """Steps of one record: its reasoning, then its answer, each with the question as context."""
    question, answer = turn["question"] or None, turn["answer"].strip()
    steps = text_steps(turn["thinking"], lexicon, question=question)
    report = split_report(answer)
    if report:
        # A whole report as answer: its findings are steps only where nothing else was reasoned.
        return steps or text_steps(report.get("findings", ""), lexicon, question=question)
    closing = text_steps(answer, lexicon, question=question)
    if question and len(closing) == 1 and len(answer.split()) < TERSE:
        # "Yes." says nothing without its question.
        closing[0]["text"] = f"{question} {answer}"
    return steps + closing


def ct_rate_cot_cases(data: CTRate, files: Iterable[Path], max_steps: int | None = None) -> CaseList:
    """One case per volume, with the steps of all its records in the order of the files.

    The report is CT-RATE's own where it is there, else the record's. ``max_steps`` keeps the first of a long case.

    Raises:
        ConversionError: no record names a volume on disk.
    """
    found = CaseList(notes=list(data.notes))
    turns: dict[str, list[dict]] = {}
    missing: set[str] = set()
    total = 0
    for path in cot_files(files):
        records, notes = read_records(path)
        found.notes += notes
        for place, record in enumerate(records, start=1):
            total += 1
            try:
                turn = read_turn(record)
            except ConversionError as error:
                raise ConversionError(f"{path}, record {place}: {error}") from None
            volume = data.find(turn["volume"])
            if volume in data.volumes:
                turns.setdefault(volume, []).append(turn)
            else:
                name = parse_name(turn["volume"])
                missing.add(name.volume if name else turn["volume"])
    if not turns:
        example = json.dumps(next(iter(sorted(missing)), None))
        raise ConversionError(
            f"none of the {total} records names one of the {len(data.volumes)} volumes under {data.root}: records name "
            f"{example}, volumes are named like {next(iter(data.volumes))!r}"
        )
    for volume in sorted(turns, key=natural_key):
        try:
            case = data.case(volume)
        except DropCase as reason:
            found.dropped.append((volume, str(reason)))
            continue
        steps = number([step for turn in turns[volume] for step in turn_steps(turn, data.lexicon)])
        given = next((r for turn in turns[volume] if (r := _report(turn))), {})
        found.cases.append(
            {
                **case,
                "report": {**given, **case["report"]},
                "cot": steps[:max_steps],
                "source": f"{case['source']} + CoT",
            }
        )
    found.notes += data.choice_notes()
    found.dropped += [
        (volume, "named by records, but not on disk, or without a reconstruction of the chest")
        for volume in sorted(missing, key=natural_key)
    ]
    return found


def _report(turn: dict[str, str]) -> dict[str, str]:
    """Findings and impression that a record carries with it, or answers with."""
    for text in (turn["report"], turn["answer"]):
        if parts := split_report(text):
            return parts
    return dict(findings=text) if (text := clean(turn["report"])) else {}
