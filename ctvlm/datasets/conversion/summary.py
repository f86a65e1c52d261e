"""Table of kept and dropped cases."""

from __future__ import annotations

import re
from collections import Counter

from rich.table import Table

from ctvlm.utils.terminal_text import printable, shown

# With at most this many cases, the table has one row per case; otherwise one row per reason.
MAX_ROWS = 40


def generic_reason(reason: str) -> str:
    """Replace file names and numbers of a reason, so that equal reasons can be counted."""
    return re.sub(r"\d+(?:\.\d+)?", "#", re.sub(r"\S*[/\\]\S*", "FILE", reason))


def summary(kept: list[dict], dropped: list[tuple[str, str]], notes: list[tuple[str, list[str]]]) -> Table:
    """Build the table: one row per case if there are few, otherwise counts by split and by reason.

    Args:
        kept: manifest lines.
        dropped: (case id, reason).
        notes: (case id, remarks) of the kept cases.
    """
    splits = Counter(case["split"] for case in kept)
    patients = len({case["patient_id"] for case in kept})
    by_split = ", ".join(f"{split} {count}" for split, count in sorted(splits.items()))
    title = f"{len(kept)} kept, {len(dropped)} dropped"
    table = Table(title=f"{title}: {by_split}; {patients} patients" if kept else title)
    per_case = len(kept) + len(dropped) <= MAX_ROWS
    for column in ("case", "", "note") if per_case else ("cases", "", "reason, with the first case"):
        table.add_column(column, overflow="fold")
    if per_case:
        rows = [(name, "[green]kept", "\n".join(map(printable, remarks))) for name, remarks in notes]
        rows += [(name, "[red]dropped", printable(reason)) for name, reason in dropped]
    else:
        rows = [(str(count), "[green]kept", split) for split, count in sorted(splits.items())]
        flat = [(name, remark) for name, remarks in notes for remark in remarks]
        rows += _count_reasons(flat, "[yellow]kept, with remark") + _count_reasons(dropped, "[red]dropped")
    for name, state, note in rows:
        table.add_row(shown(name), state, "\n".join(map(shown, note.split("\n"))))
    return table


def _count_reasons(pairs: list[tuple[str, str]], state: str) -> list[tuple[str, str, str]]:
    counts = Counter(generic_reason(reason) for _, reason in pairs)
    first = {generic_reason(reason): f"{name}: {reason}" for name, reason in reversed(pairs)}
    return [(str(count), state, printable(first[generic])) for generic, count in counts.most_common()]
