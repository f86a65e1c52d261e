"""Tables of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from ctvlm.experiments.benchmark.measure import Cost

MIB = 2**20


def cost_table(costs: Sequence[Cost], title: str) -> Table:
    """One row per encoder; ratios to the first one."""
    peak = costs[0].matrix_flops_per_s / 1e9
    table = Table(
        "encoder", "parameters", "tokens", "GFLOP", "forward s", "backward s", "time ratio", "tokens/s",
        "peak MiB", "memory ratio", "share of peak", title=title,
        caption=f"Medians of alternating repeats. Peak: matrix product at {peak:,.0f} GFLOP/s in the same "
        "run. Memory: growth during the pass, gradients included, weights and input excluded.",
        caption_justify="left",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for cost in costs:
        table.add_row(
            cost.name,
            f"{cost.parameters:,}",
            f"{cost.tokens:,}",
            f"{cost.flops / 1e9:,.2f}",
            f"{cost.forward_s:.4f}",
            f"{cost.backward_s:.4f}",
            f"{cost.time_ratio:.2f}",
            f"{cost.tokens_per_s:,.0f}",
            f"{cost.peak_bytes / MIB:,.1f}",
            f"{cost.memory_ratio:.2f}",
            f"{cost.peak_share:.2f}",
        )
    return table


def exponent_table(exponents: Mapping[str, Mapping[str, float]]) -> Table:
    """Exponents of the growth with the number of patches."""
    table = Table("encoder", "time", "memory", title="exponent in the number of patches: 1 is linear, 2 is quadratic")
    for name, row in exponents.items():
        table.add_row(name, f"{row['time']:.2f}", f"{row['memory']:.2f}")
    return table


def rows_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Rows with the same keys, which become the columns."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:,.4g}" for value in row.values()))
    return table
