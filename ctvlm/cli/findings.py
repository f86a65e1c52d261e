"""Findings of CTs: prompts from a file, tables of probabilities."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ctvlm.apis import CaseInputError, Classification
from ctvlm.apis.zero_shot_classifier import Findings
from ctvlm.cli.inference import plain_table, title
from ctvlm.engine.checkpoint.files import AtomicLocalBackend
from ctvlm.utils.terminal_text import printable, shown

# Findings of a CT in a table of several CTs.
_TOP = 3
_BAR = 20


def chosen_findings(names: Sequence[str] | None, prompts: str | None) -> Findings | None:
    """Findings of the options --finding and --prompts; None for all findings of the protocol.

    Raises:
        CaseInputError: the file is no JSON object.
    """
    if prompts is None:
        return names or None
    if names:
        raise CaseInputError("--finding and --prompts: found both; expected one of them")
    try:
        content = json.loads(Path(prompts).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CaseInputError(f"--prompts {prompts} is not JSON: {error}") from None
    if not isinstance(content, dict) or not content:
        raise CaseInputError(f'--prompts {prompts}: expected an object such as {{"name": ["present", "absent"]}}')
    return content


def print_findings(results: Sequence[Classification], console: Console, out: str | None) -> None:
    """All probabilities of one CT, or the highest ones of several CTs."""
    if len(results) == 1:
        table = plain_table("finding", "probability", "")
        for name, value in _sorted(results[0]):
            table.add_row(shown(name), f"{value:.2f}", "█" * round(value * _BAR))
        console.print(title(results[0].case_id))
    else:
        table = plain_table("CT", "most probable findings")
        for result in results:
            top = ", ".join(f"{name} {value:.2f}" for name, value in _sorted(result)[:_TOP])
            table.add_row(shown(result.case_id), shown(top))
    if results:
        console.print(table)
    if out:
        print(f"written: {printable(out)}")
    elif len(results) > 1:
        console.print("all probabilities: --out FILE.csv or --json", style="dim")


def write_findings(results: Sequence[Classification], path: str) -> None:
    """Write a CSV table with one row per CT and one column per finding."""
    names = list(results[0].probabilities) if results else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case_id", *names])
    for result in results:
        writer.writerow([result.case_id, *(f"{result.probabilities[name]:.6f}" for name in names)])
    AtomicLocalBackend().put_text(text.getvalue(), path)


def _sorted(result: Classification) -> list[tuple[str, float]]:
    return sorted(result.probabilities.items(), key=lambda item: -item[1])
