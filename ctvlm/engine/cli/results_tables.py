"""Tables of results for the terminal: means first, then one row per finding. The CSV file contains everything."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ctvlm.engine.cli.metrics_table import OWN_PROTOCOL, MetricRow, metric_rows
from ctvlm.structures import STAGES
from ctvlm.utils.terminal_text import shown


def print_results(console: Console, metrics: Mapping[str, Any], title: str) -> None:
    """Print the means, and for each prefix with scores of findings or stages a table of them."""
    rows = metric_rows(metrics)
    means = [row for row in rows if not is_finding(row.metric)]
    if means or not rows:
        console.print(means_table(means, metrics, title))
    tables: dict[tuple[str, str], list[MetricRow]] = {}
    for row in rows:
        if is_finding(row.metric):
            prefix, name, *_ = row.metric.split("/")
            tables.setdefault((prefix, "stage" if name in STAGES else "finding"), []).append(row)
    for (prefix, kind), own in tables.items():
        console.print(findings_table(own, metrics, prefix, console.width, kind))


def is_finding(metric: str) -> bool:
    """Whether a metric is the score of one finding (or region, or stage): ``<prefix>/<finding>/<score>``."""
    return metric.count("/") > 1


def means_table(rows: Sequence[MetricRow], metrics: Mapping[str, Any], title: str) -> Table:
    """One row per metric; protocols and threshold rules are below the table. Columns without values are left out.

    The score of a constant report is in the column ``baseline``, other chance levels are in ``chance``.
    """
    baselines = [f"{row.metric.partition('/')[0]}/baseline" in metrics for row in rows]
    columns = {
        "metric": [row.metric for row in rows],
        "value": [_cell(row.value) for row in rows],
        "interval": ["" if row.low is None else f"{_cell(row.low)} to {_cell(row.high)}" for row in rows],
        "chance": ["" if base else _cell(row.chance) for row, base in zip(rows, baselines, strict=True)],
        "baseline": [_cell(row.chance) if base else "" for row, base in zip(rows, baselines, strict=True)],
        "n": [_cell(row.n) for row in rows],
        "nan because": [nan_reason(row, metrics) for row in rows],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells) or name in ("metric", "value")}
    rules = "\n".join(map(shown, _rules(rows)))
    table = Table(title=shown(title), title_justify="left", caption=rules or None, caption_justify="left")
    for name in columns:
        left = name in ("metric", "nan because")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "value", overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(shown, cells))
    return table


def findings_table(
    rows: Sequence[MetricRow], metrics: Mapping[str, Any], prefix: str, width: int, kind: str = "finding"
) -> Table:
    """One row per finding with the scores as columns; the last scores are left out if the table is too wide.

    Args:
        kind: what the rows are, for the title: ``finding`` or ``stage``.
    """
    findings: dict[str, dict[str, MetricRow]] = {}
    for row in rows:
        finding, _, score = row.metric.removeprefix(f"{prefix}/").rpartition("/")
        findings.setdefault(finding, {})[score] = row
    scores = list(dict.fromkeys(score for values in findings.values() for score in values))
    counts = {name: _cell(next(iter(values.values())).n) for name, values in findings.items()}
    reasons = {
        name: ", ".join(dict.fromkeys(filter(None, (nan_reason(row, metrics) for row in values.values()))))
        for name, values in findings.items()
    }
    # 3: a border and two spaces
    used = 1 + sum(3 + max(map(len, cells)) for cells in (findings, counts.values()))
    used += 3 + max(map(len, (*reasons.values(), "nan because"))) if any(reasons.values()) else 0
    columns: list[str] = []
    for score in scores:
        used += 3 + max(len(score), 6)
        if used <= width or not columns:
            columns.append(score)
    rest = [score for score in scores if score not in columns]
    caption = f"not shown, in the CSV file: {shown(', '.join(rest))}" if rest else None
    table = Table(title=f"{shown(prefix)}, by {kind}", title_justify="left", caption=caption, caption_justify="left")
    table.add_column(kind, overflow="fold")
    for name in ("n", *columns):
        table.add_column(shown(name), justify="right")
    if any(reasons.values()):
        table.add_column("nan because", overflow="fold")
    for name, values in findings.items():
        cells = [_score_cell(values[score].value) if score in values else "" for score in columns]
        table.add_row(*map(shown, (name, counts[name], *cells, *([reasons[name]] if any(reasons.values()) else []))))
    return table


def nan_reason(row: MetricRow, metrics: Mapping[str, Any]) -> str:
    """Why a value is NaN: the metric's ``<name>_reason``, or from the number of cases; otherwise an empty string."""
    if not _is_nan(row.value):
        return ""
    if reason := metrics.get(f"{row.metric}_reason"):
        return str(reason)
    if isinstance(row.n, int):
        recall = re.search(r"R@(\d+)$", row.metric)
        needed = int(recall.group(1)) + 1 if recall else 2
        if row.n < needed:
            return f"fewer than {needed} cases" if row.n else "no cases"
    if metrics.get(f"{row.metric.partition('/')[0]}/findings_scored") == 0:
        return "no finding has positives and negatives"
    return ""


def _rules(rows: Sequence[MetricRow]) -> list[str]:
    """Protocol, unless it is this project's own, and threshold rules of each prefix."""
    lines = []
    for prefix in dict.fromkeys(row.metric.partition("/")[0] for row in rows):
        own = [row for row in rows if row.metric.startswith(f"{prefix}/")]
        protocols = dict.fromkeys(row.protocol for row in own if row.protocol != OWN_PROTOCOL)
        rules = dict.fromkeys(row.threshold_rule for row in own if row.threshold_rule)
        texts = [*(f"protocol {name}" for name in protocols), *(f"threshold {rule}" for rule in rules)]
        if texts:
            lines.append(f"{prefix}: {', '.join(texts)}")
    return lines


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _score_cell(value: object) -> str:
    """At most six characters for values below 10."""
    return f"{value:.3f}" if isinstance(value, float) and abs(value) < 10 else _cell(value)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
