"""Conversion of chain-of-thought text on CT-RATE volumes: plain question/answer records, CT-RATE-Thinking, CORTEX.

Each record has a volume, a question and an answer, under different keys:

- ``{"volumename", "question", "answer"}``;
- CT-RATE-Thinking: ``image, task_type, report, question, thinking, answer``;
- CORTEX: a text with ``<task> <observation> <reason> <answer>``, possibly inside ``conversations``. The steps get the
  stage of their tag. ``<think>`` has no stage; the text of other tags is not used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ctvlm.anatomy import MentionLexicon
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.ct_rate import CTRate
from ctvlm.datasets.conversion.ct_rate_files import parse_name
from ctvlm.datasets.conversion.tables import first_of, read_records
from ctvlm.datasets.conversion.text import clean, number_steps, split_report, tagged, text_steps
from ctvlm.utils import natural_key

VOLUME = ("volumename", "VolumeName", "volume_name", "volume", "image", "image_path", "id")
QUESTION = ("question", "instruction", "prompt")
THINKING = ("thinking", "reasoning", "cot", "rationale")
ANSWER = ("answer", "response", "output")
# Reasoning tags of CORTEX and their stages; the task tag repeats the question.
REASONING_TAGS = {"observation": "observation", "reason": "reason", "reasoning": "reason", "think": "", "thinking": ""}
T = TypeVar("T", bound=Mapping[str, Any])
MIN_ANSWER_WORDS = 4  # a shorter answer is prefixed with its question


def cot_files(paths: Iterable[Path]) -> list[Path]:
    """List the given files and the .json and .jsonl files of the given folders (and of their ``data/``)."""
    files: list[Path] = []
    for path in map(Path, paths):
        inside = [*path.glob("*"), *path.glob("data/*")] if path.is_dir() else [path]
        inside = sorted(p for p in inside if p.suffix.lower() in (".json", ".jsonl"))
        files += inside
        if not inside or not (path.is_dir() or path.is_file()):
            raise FileNotFoundError(f"{path}: found no .json or .jsonl file; expected question/answer records")
    return files


def read_record(record: dict) -> dict[str, Any]:
    """Read ``volume, question, reasoning, answer, report`` of a record; missing texts are "".

    ``reasoning`` is a list of (stage, text), and ``answer_stage`` the stage of the answer; a missing stage is "".

    Raises:
        ConversionError: no volume, or no text; the message lists the keys.
    """
    talk = record.get("conversations") or record.get("messages")
    turns = [turn for turn in talk if isinstance(turn, dict)] if isinstance(talk, list) else []
    texts = [str(first_of(turn, ("value", "content")) or "") for turn in turns]
    roles = [str(first_of(turn, ("from", "role")) or "").lower() for turn in turns]
    user_text = next((text for text, role in zip(texts, roles) if role in ("human", "user")), "")
    assistant_text = next((text for text, role in zip(texts, roles) if role in ("gpt", "assistant")), "")
    volume = first_of(record, VOLUME)
    volume = volume[0] if isinstance(volume, list) else volume
    question = str(first_of(record, QUESTION) or user_text).replace("<image>", "").strip()
    thinking, answer = str(first_of(record, THINKING) or ""), str(first_of(record, ANSWER) or assistant_text)
    reasoning, answer_stage = [("", thinking)] if thinking else [], ""
    parts = tagged(answer) or tagged(thinking)
    if parts:
        reasoning = [(stage, parts[tag]) for tag, stage in REASONING_TAGS.items() if tag in parts]
        answer, answer_stage = parts.get("answer", ""), "answer"
        question = question or parts.get("task", "")
    if volume is None or not (reasoning or answer):
        raise ConversionError(
            f"found the keys {sorted(record)}; expected a volume under one of {', '.join(VOLUME)} and text "
            f"under one of {', '.join((*ANSWER, *THINKING))} or in 'conversations'"
        )
    report = str(record.get("report") or "")
    found = dict(volume=str(volume), question=question, answer=answer, report=report)
    return {**found, "reasoning": reasoning, "answer_stage": answer_stage}


def record_steps(record: dict[str, Any], lexicon: MentionLexicon) -> list[dict]:
    """Return the steps of one record: its reasoning, then its answer, each with the question and its stage."""
    question, answer, stage = record["question"] or None, record["answer"].strip(), record["answer_stage"]
    steps = [
        step for own, text in record["reasoning"] for step in text_steps(text, lexicon, question=question, stage=own)
    ]
    report = split_report(answer)
    if report:
        # The answer is a whole report, whose findings are steps only if there is no reasoning.
        return steps or text_steps(report.get("findings", ""), lexicon, question=question, stage=stage)
    closing = text_steps(answer, lexicon, question=question, stage=stage)
    if question and len(closing) == 1 and len(answer.split()) < MIN_ANSWER_WORDS:
        # "Yes." is meaningless without its question.
        closing[0]["text"] = f"{question} {answer}"
    return steps + closing


def records_by_volume(
    data: CTRate, files: Iterable[Path], parse: Callable[[dict], T]
) -> tuple[dict[str, list[T]], CaseList]:
    """Parse all records and group them by the volume on disk, in file order.

    Args:
        parse: turns a raw record into one with a ``volume``; its ConversionError is extended by the file and number.

    Returns:
        The records by volume, and a list with notes and with the volumes that are not on disk as dropped.

    Raises:
        ConversionError: no record matches a volume on disk, or a record is invalid.
    """
    listed = CaseList(notes=list(data.notes))
    by_volume: dict[str, list[T]] = {}
    missing: set[str] = set()
    total = 0
    for path in cot_files(files):
        records, notes = read_records(path)
        listed.notes += notes
        for number, raw in enumerate(records, start=1):
            total += 1
            try:
                record = parse(raw)
            except ConversionError as error:
                raise ConversionError(f"{path}, record {number}: {error}") from None
            volume = data.find(record["volume"])
            if volume is not None and volume in data.volumes:
                by_volume.setdefault(volume, []).append(record)
            else:
                name = parse_name(record["volume"])
                missing.add(name.volume if name else record["volume"])
    if not by_volume:
        example = json.dumps(next(iter(sorted(missing)), None))
        raise ConversionError(
            f"none of the {total} records matches one of the {len(data.volumes)} volumes under {data.root}; records "
            f"have names such as {example}, volumes {next(iter(data.volumes))!r}"
        )
    listed.dropped += [
        (volume, "in the records, but not on disk or without a chest reconstruction")
        for volume in sorted(missing, key=natural_key)
    ]
    return by_volume, listed


def ct_rate_cot_cases(data: CTRate, files: Iterable[Path], max_steps: int | None = None) -> CaseList:
    """List one case per volume, with the steps of all its records in file order.

    The report comes from CT-RATE, or from the records if CT-RATE has none. ``max_steps`` limits the steps of a case.

    Raises:
        ConversionError: no record matches a volume on disk.
    """
    by_volume, listed = records_by_volume(data, files, read_record)
    for volume in sorted(by_volume, key=natural_key):
        try:
            case = data.case(volume)
        except DropCase as reason:
            listed.dropped.append((volume, str(reason)))
            continue
        steps = number_steps([step for record in by_volume[volume] for step in record_steps(record, data.lexicon)])
        report = next((r for record in by_volume[volume] if (r := report_of(record))), {})
        listed.cases.append(
            {
                **case,
                "report": {**report, **case["report"]},
                "cot": steps[:max_steps],
                "source": f"{case['source']} + CoT",
            }
        )
    listed.notes += data.choice_notes()
    return listed


def report_of(record: dict[str, Any]) -> dict[str, str]:
    """Return findings and impression of a record, from its report or its answer."""
    for text in (record["report"], record["answer"]):
        if parts := split_report(text):
            return parts
    return dict(findings=text) if (text := clean(record["report"])) else {}
