"""Selection of the training text of a case: the text of the manifest, or measured text if there is none."""

from __future__ import annotations

from ctvlm.anatomy import DEFAULT_SCHEME, mention_lexicon
from ctvlm.datasets.conversion.text import clean, text_steps

GIVEN_STEPS = "steps of the manifest (cot)"
FINDINGS = "sentences of the findings"
IMPRESSION = "sentences of the impression"
NO_TEXT = "no text (measured if the pipeline has MeasuredReasoning)"
# Origins of the training text.
GIVEN, MEASURED, NONE = "given report", "measured", "none"


def text_source(case: dict) -> str:
    """Return the source of the steps of a case, one of the constants above."""
    report = case.get("report") or {}
    if any(step["text"].strip() for step in case.get("cot") or []):
        return GIVEN_STEPS
    if clean(report.get("findings")):
        return FINDINGS
    return IMPRESSION if clean(report.get("impression")) else NO_TEXT


def text_origin(case: dict, measures: bool) -> str:
    """Return the origin of the text of a case: GIVEN, MEASURED or NONE.

    Args:
        case: manifest case. ``tools/preprocess.py --measure-text`` stores the origin in ``extra.text_origin``.
        measures: the pipeline writes measured text for cases without text.
    """
    if text_source(case) == NO_TEXT:
        return MEASURED if measures else NONE
    return (case.get("extra") or {}).get("text_origin", GIVEN)


def with_steps(case: dict, scheme: str = DEFAULT_SCHEME) -> dict:
    """Add one step per sentence of the report, if the case has a report and no steps.

    Regions are found by ``MentionLexicon`` in English text only; steps in other languages have no regions.
    """
    source = text_source(case)
    if source in (GIVEN_STEPS, NO_TEXT):
        return case
    # The original text, because line breaks and list numbers separate sentences.
    text = case["report"]["findings" if source == FINDINGS else "impression"]
    return {**case, "cot": text_steps(text, mention_lexicon(scheme))}
