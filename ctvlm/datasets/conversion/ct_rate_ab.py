"""Conversion of CT-RATE-AB: conversations and preference pairs on CT-RATE volumes, as JSON in LLaVA's format.

Layout: ``CT-RATE-AB-{train,valid}.json`` (conversations of one or several turns) and ``CT-RATE-AB-DPO.json`` (the same
with ``chosen`` and ``rejected``). A record names its volume by a video such as ``videos/train_1_a_1.mp4``, which is a
rendering of the CT-RATE volume; here the CT itself is used. A rejected answer states abnormalities that the volume does
not show, so it never becomes a step.

Assumptions: the keys of the volume, of the turns (``from``/``value`` or ``role``/``content``) and of the pairs (text,
or one or several turns) are those of the LLaVA family; several spellings are supported.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.ct_rate import CTRate
from ctvlm.datasets.conversion.ct_rate_cot import VOLUME, record_steps, records_by_volume, report_of
from ctvlm.datasets.conversion.tables import first_of
from ctvlm.datasets.conversion.text import clean, number_steps
from ctvlm.utils import natural_key

NAME = ("video", "videos", "video_path", *VOLUME)
TURNS = ("conversations", "conversation", "messages")
CHOSEN, REJECTED, PROMPT = ("chosen", "chosen_response"), ("rejected", "rejected_response"), ("prompt", "question")
USER, ASSISTANT = ("human", "user"), ("gpt", "assistant")


def read_conversation(record: dict) -> dict[str, Any]:
    """Read the ``volume``, the ``turns`` (question, answer) and the ``preferences`` of a record.

    Raises:
        ConversionError: no volume, no text, or only one of ``chosen`` and ``rejected``; the message lists the keys.
    """
    name = first_of(record, NAME)
    name = name[0] if isinstance(name, list) else name
    turns, question = _turns(first_of(record, TURNS))
    chosen, rejected = (_answer(first_of(record, keys)) for keys in (CHOSEN, REJECTED))
    preferences = []
    if chosen or rejected:
        asked = _question(first_of(record, PROMPT) or question or (turns[-1][0] if turns else ""))
        preferences.append(dict(question=asked, chosen=chosen, rejected=rejected))
    if name is None or not (turns or preferences) or bool(chosen) != bool(rejected):
        raise ConversionError(
            f"found the keys {sorted(record)}; expected a volume under one of {', '.join(NAME)}, and turns under "
            f"one of {', '.join(TURNS)}, or both 'chosen' and 'rejected'"
        )
    turns = [turn for turn in turns if turn[1] != rejected]
    return dict(volume=str(name), turns=turns, preferences=preferences)


def ct_rate_ab_cases(data: CTRate, files: Iterable[Path]) -> CaseList:
    """List one case per volume: the steps of all its turns, and its pairs in ``extra.preferences``.

    The report comes from CT-RATE, or from the answers if CT-RATE has none.

    Raises:
        ConversionError: no record matches a volume on disk, or a record is invalid.
    """
    by_volume, listed = records_by_volume(data, files, read_conversation)
    turns = pairs = 0
    for volume in sorted(by_volume, key=natural_key):
        try:
            case = data.case(volume)
        except DropCase as reason:
            listed.dropped.append((volume, str(reason)))
            continue
        records = [
            dict(question=question, reasoning=[], answer=answer, answer_stage="", report="")
            for record in by_volume[volume]
            for question, answer in record["turns"]
        ]
        preferences: list[dict] = []
        for pair in (pair for record in by_volume[volume] for pair in record["preferences"]):
            preferences += [pair] if pair not in preferences else []
        turns, pairs = turns + len(records), pairs + len(preferences)
        report = next((found for record in records if (found := report_of(record))), {})
        steps = number_steps([step for record in records for step in record_steps(record, data.lexicon)])
        listed.cases.append(
            {
                **case,
                "report": {**report, **case["report"]},
                "cot": steps,
                "source": f"{case['source']} + CT-RATE-AB",
                "extra": {**case["extra"], **({"preferences": preferences} if preferences else {})},
            }
        )
    listed.notes += [*data.choice_notes(), f"{turns} turns and {pairs} preference pairs of {len(listed.cases)} volumes"]
    return listed


def _turns(talk: Any) -> tuple[list[tuple[str, str]], str]:
    """Pairs of question and answer, and the last question if it has no answer."""
    turns, question = [], ""
    for turn in talk if isinstance(talk, list) else []:
        role, text = _turn(turn)
        if role in USER:
            question = _question(text)
        elif role in ASSISTANT and text.strip():
            turns.append((question, text.strip()))
            question = ""
    return turns, question


def _turn(turn: Any) -> tuple[str, str]:
    if not isinstance(turn, dict):
        return "", ""
    role, text = first_of(turn, ("from", "role")), first_of(turn, ("value", "content"))
    return str(role or "").lower(), text if isinstance(text, str) else ""


def _question(text: Any) -> str:
    """Text of a question without image tokens."""
    return clean(str(text).replace("<image>", " ").replace("<video>", " "))


def _answer(value: Any) -> str:
    """Answer of a pair: text, a turn, or a conversation, of which the last answer counts."""
    turns = value if isinstance(value, list) else [value]
    texts = [text for role, text in map(_turn, turns) if role in (*ASSISTANT, "")]
    return value.strip() if isinstance(value, str) else (texts[-1].strip() if texts else "")
