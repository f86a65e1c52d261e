"""Which text a case is trained on: what its manifest gives, and measured text only where it gives none."""

from __future__ import annotations

from ctvlm.anatomy import DEFAULT_SCHEME, mention_lexicon
from ctvlm.datasets.conversion.text import clean, text_steps

GIVEN_STEPS = "its own steps (cot)"
FINDINGS = "sentences of its findings"
IMPRESSION = "sentences of its impression"
NO_TEXT = "no text: measured, where the pipeline has MeasuredReasoning"
# Origins of the text that a model is trained on.
GIVEN, MEASURED, NONE = "given report", "measured", "none"


def text_source(case: dict) -> str:
    """Where the steps of a case come from: one of the constants above; the first that the case has."""
    report = case.get("report") or {}
    if any(step["text"].strip() for step in case.get("cot") or []):
        return GIVEN_STEPS
    if clean(report.get("findings")):
        return FINDINGS
    return IMPRESSION if clean(report.get("impression")) else NO_TEXT


def text_origin(case: dict, measures: bool) -> str:
    """Whether a case's text was given or measured from its region map, or the case has none.

    Args:
        measures: the pipeline measures cases without text. Stores of ``tools/preprocess.py --measure-text`` name
            theirs in ``extra.text_origin``.
    """
    if text_source(case) == NO_TEXT:
        return MEASURED if measures else NONE
    return (case.get("extra") or {}).get("text_origin", GIVEN)


def with_steps(case: dict, scheme: str = DEFAULT_SCHEME) -> dict:
    """The case with a step for each sentence of its report, if it has a report and no steps of its own.

    Regions are those that ``MentionLexicon`` finds, in English only: steps in other languages name no region.
    """
    source = text_source(case)
    if source in (GIVEN_STEPS, NO_TEXT):
        return case
    # As written: its lines and list numbers show where sentences end.
    text = case["report"]["findings" if source == FINDINGS else "impression"]
    return {**case, "cot": text_steps(text, mention_lexicon(scheme))}
