"""Generated reasoning for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from ctvlm.apis import Reasoning
from ctvlm.cli.inference import plain_table, title
from ctvlm.utils.terminal_text import shown


def print_reasoning(results: Sequence[Reasoning], console: Console) -> None:
    """One table of steps per CT, and its impression."""
    for result in results:
        console.print(title(result.case_id))
        table = plain_table("", "step", "regions", "slice", "confidence")
        for column in (table.columns[3], table.columns[4]):
            column.justify = "right"
        for number, step in enumerate(result.steps, start=1):
            confidence = "" if step.confidence is None else f"{step.confidence:.2f}"
            regions = ", ".join(step.regions)
            table.add_row(str(number), shown(step.text), shown(regions), str(step.slice_index + 1), confidence)
        console.print(table if result.steps else "no step was generated")
        if result.impression:
            console.print(f"[bold]impression:[/bold] {shown(result.impression)}")
        console.print()
