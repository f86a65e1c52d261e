"""Examples of generated texts next to their references, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

MAX_CHARACTERS = 400


def example_texts(sample: Mapping) -> tuple[str, str, str] | None:
    """Case id, reference and generated text of a data sample; None if the model has generated no text."""
    generated = sample.get("pred_report")
    if generated is None:
        return None
    reference = " ".join(sample.get(field) or "" for field in ("findings", "impression")).strip()
    return str(sample.get("case_id", "")), reference, str(generated)


def examples_table(examples: list[tuple[str, str, str]]) -> Table:
    """Case id above its two texts, which are cut after ``MAX_CHARACTERS`` characters."""
    table = Table.grid(padding=(0, 2), expand=False)
    table.title, table.title_justify = "Examples of generated reports", "left"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for case, reference, generated in examples:
        table.add_row("case", Text(case, style="bold"))
        table.add_row("reference", _shortened(reference))
        table.add_row("generated", _shortened(generated))
    return table


def _shortened(text: str) -> Text:
    text = " ".join(text.split()) or "(empty)"
    return Text(text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…")
