"""One table over configs and seeds: mean, interval, and the difference to a reference."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from ctvlm.evaluation.functional.over_seeds import mean_interval, paired_difference


class Column(NamedTuple):
    """A metric of the table: heading, key among a run's metrics, number format."""

    title: str
    key: str
    form: str = ".3f"


COLUMNS = (
    Column("region-text acc. ↑", "region_text/accuracy"),
    Column("step-text AUC ↑", "step_text/auc"),
    Column("pointing game ↑", "step_attention/pointing"),
    Column("slice error mm ↓", "step_attention/slice_error_mm", ".1f"),
    # Of few cases, recall at a rank is too coarse to tell models apart: this reads every rank.
    Column("t→i MRR ↑", "retrieval/t2i_MRR"),
    Column("i→t MRR ↑", "retrieval/i2t_MRR"),
)
CAPTION = (
    "Mean over seeds ± half of its 95% interval (Student's t); Δ: difference to {reference}, paired by seed, with its "
    "own interval; * where that leaves out 0. All metrics are in the CSV and JSON files."
)


def summarise(
    results: Sequence[Mapping[str, Any]], names: Sequence[str], reference: str, failed: Mapping[str, str]
) -> dict[str, Any]:
    """Means, intervals and differences of all metrics that any run has.

    Args:
        results: of finished runs: ``config``, ``seed``, ``seconds`` and ``metrics``.
        names: configs in the order of the rows; one without a result gets an empty row.
        reference: the config that others are held against.
        failed: what went wrong, by config.
    """
    values: dict[str, dict[str, dict[int, float]]] = {name: {} for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for result in results:
        seconds[result["config"]].append(result["seconds"])
        for key, value in result["metrics"].items():
            # Protocols and threshold rules are text.
            if isinstance(value, (int, float)):
                values[result["config"]].setdefault(key, {})[result["seed"]] = value
    rows = {}
    for name in dict.fromkeys(names):
        metrics = {}
        for key, by_seed in values[name].items():
            mean, half = mean_interval(list(by_seed.values()))
            metrics[key] = dict(by_seed=by_seed, mean=mean, half_width=half)
            if name != reference:
                other = values.get(reference, {}).get(key, {})
                difference, half = paired_difference(by_seed, other)
                metrics[key] |= dict(difference=difference, difference_half_width=half)
        rows[name] = dict(
            runs=len(seconds[name]), minutes=mean_interval(seconds[name])[0] / 60, metrics=metrics,
            failed=failed.get(name),
        )  # fmt: skip
    return dict(reference=reference, rows=rows)


def cells(row: Mapping[str, Any], column: Column) -> list[str]:
    """What the table says of a metric: its mean, and below it the difference to the reference."""
    found = row["metrics"].get(column.key)
    if found is None or not math.isfinite(found["mean"]):
        return [""]
    lines = [_with_interval(found["mean"], found["half_width"], column.form)]
    difference, half = found.get("difference", math.nan), found.get("difference_half_width", math.nan)
    if math.isfinite(difference):
        clear = " *" if abs(difference) > half else ""
        lines.append("Δ " + _with_interval(difference, half, "+" + column.form) + clear)
    return lines


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know to read the rows: failures, and accuracies over other steps than the reference's."""
    reference = summary["rows"].get(summary["reference"])
    key = "region_text/num_steps"
    found = [f"{name} failed: {row['failed']}" for name, row in summary["rows"].items() if row["failed"]]
    if reference is None or key not in reference["metrics"]:
        return found
    usual = reference["metrics"][key]["mean"]
    for name, row in summary["rows"].items():
        steps = row["metrics"].get(key)
        if steps is not None and steps["mean"] != usual:
            found.append(
                f"{name}: region-text accuracy over {steps['mean']:.0f} steps, not {usual:.0f}: its regions are others"
            )
    return found


def rich_table(summary: Mapping[str, Any]) -> Table:
    """For the terminal."""
    table = Table(caption=CAPTION.format(reference=summary["reference"]), caption_justify="left", show_lines=True)
    table.add_column("config", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column.title, justify="right")
    for name, row in summary["rows"].items():
        values = ["\n".join(cells(row, column)) for column in COLUMNS]
        runs = f"{row['runs']} run{'s' * (row['runs'] != 1)}"
        minutes = f", {_minutes(row)} min each" if row["runs"] else ""
        table.add_row(f"{name}\n{runs}{minutes}{', failed' if row['failed'] else ''}", *values)
    return table


def markdown(summary: Mapping[str, Any]) -> str:
    """For a README."""
    titles = ["config", *(column.title for column in COLUMNS), "runs", "min/run"]
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for name, row in summary["rows"].items():
        values = ["<br>".join(cells(row, column)) for column in COLUMNS]
        lines.append(f"| {' | '.join([name, *values, _runs(row), _minutes(row)])} |")
    return "\n".join([*lines, "", CAPTION.format(reference=summary["reference"]), "", *notes(summary)]).rstrip() + "\n"


def csv_text(summary: Mapping[str, Any]) -> str:
    """One line per config and metric, for a spreadsheet."""
    fields = ("config", "metric", "runs", "mean", "half_width", "difference", "difference_half_width")
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for name, row in summary["rows"].items():
        for key, found in row["metrics"].items():
            writer.writerow(dict(config=name, metric=key, runs=len(found["by_seed"]), **found))
    return out.getvalue()


def _with_interval(value: float, half: float, form: str) -> str:
    return f"{value:{form}}" + (f" ± {half:{form.lstrip('+')}}" if math.isfinite(half) else "")


def _runs(row: Mapping[str, Any]) -> str:
    return f"{row['runs']}, failed" if row["failed"] else str(row["runs"])


def _minutes(row: Mapping[str, Any]) -> str:
    return f"{row['minutes']:.1f}" if row["runs"] else ""
