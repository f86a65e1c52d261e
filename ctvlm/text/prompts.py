"""Prompts that state that a finding is present or absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Prompts (present, absent) with {} for the finding.
Template = tuple[str, str]
# Finding to its wording in the present and in the absent prompt.
Phrases = Mapping[str, tuple[str, str]]

# CT-CLIP's prompts.
PRESENT_TEMPLATES: tuple[Template, ...] = (("{} is present.", "{} is not present."),)
# RadFinder's prompts, whose embeddings are averaged.
ENSEMBLE_TEMPLATES: tuple[Template, ...] = (
    ("{}.", "No {}."),
    ("Findings are compatible with {}.", "Findings are not compatible with {}."),
    ("There is {}.", "There is no {}."),
    ("{} is seen.", "{} is not seen."),
    ("{}.", "Not {}."),
    ("{} is observed.", "{} is not observed."),
    ("{} is present.", "{} is not present."),
)


def prompt_pairs(name: str, templates: Sequence[Template], phrases: Phrases | None = None) -> list[Template]:
    """Prompts (present, absent) of one finding, one pair per template."""
    words = (phrases or {}).get(name, (name, name))
    return [(present.format(words[0]), absent.format(words[1])) for present, absent in templates]


def prompt_texts(names: Sequence[str], templates: Sequence[Template], phrases: Phrases | None = None) -> list[str]:
    """All prompts of the findings in order, without duplicates."""
    pairs = [pair for name in names for pair in prompt_pairs(name, templates, phrases)]
    return list(dict.fromkeys(text for pair in pairs for text in pair))
