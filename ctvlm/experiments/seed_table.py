"""Tables over configs and seeds: mean, interval, and difference to a reference config."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from ctvlm.engine.checkpoint import write_json
from ctvlm.engine.checkpoint.files import AtomicLocalBackend
from ctvlm.evaluation.functional.over_seeds import mean_interval, paired_difference


class Column(NamedTuple):
    """One metric of the table: title, key of the metric, number format."""

    title: str
    key: str
    form: str = ".3f"


COLUMNS = (
    Column("region-text acc. ↑", "region_text/accuracy"),
    Column("step-text AUC ↑", "step_text/auc"),
    Column("pointing game ↑", "step_attention/pointing"),
    Column("slice error mm ↓", "step_attention/slice_error_mm", ".1f"),
    # MRR uses every rank. Recall at a rank is too coarse to distinguish models on few cases.
    Column("t→i MRR ↑", "retrieval/t2i_MRR"),
    Column("i→t MRR ↑", "retrieval/i2t_MRR"),
    Column("opposite acc. ↑", "opposite_text/mean"),
)
CAPTION = (
    "Mean over seeds ± half width of its 95% interval (Student's t). Δ: difference to {reference}, paired by seed, "
    "with its own interval; * if that interval excludes 0. The CSV and JSON files contain all metrics."
)


def summarise(
    results: Sequence[Mapping[str, Any]], names: Sequence[str], reference: str, failed: Mapping[str, str]
) -> dict[str, Any]:
    """Compute mean, interval and difference to the reference of every metric.

    Args:
        results: ``config``, ``seed``, ``seconds`` and ``metrics`` of each finished run.
        names: configs in the order of the rows; a config without results gets an empty row.
        reference: name of the config that the others are compared with.
        failed: error message of each config with a failed run.
    """
    values: dict[str, dict[str, dict[int, float]]] = {name: {} for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for result in results:
        seconds[result["config"]].append(result["seconds"])
        for key, value in result["metrics"].items():
            # Protocols and threshold rules are strings.
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
    """Lines of a table cell: the mean, and the difference to the reference."""
    metric = row["metrics"].get(column.key)
    if metric is None or not math.isfinite(metric["mean"]):
        return [""]
    lines = [_with_interval(metric["mean"], metric["half_width"], column.form)]
    difference, half = metric.get("difference", math.nan), metric.get("difference_half_width", math.nan)
    if math.isfinite(difference):
        significant = " *" if abs(difference) > half else ""
        lines.append("Δ " + _with_interval(difference, half, "+" + column.form) + significant)
    return lines


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Remarks on the rows: failed runs, and accuracies over another number of steps than the reference has."""
    reference = summary["rows"].get(summary["reference"])
    key = "region_text/num_steps"
    remarks = [f"{name} failed: {row['failed']}" for name, row in summary["rows"].items() if row["failed"]]
    if reference is None or key not in reference["metrics"]:
        return remarks
    expected = reference["metrics"][key]["mean"]
    for name, row in summary["rows"].items():
        steps = row["metrics"].get(key)
        if steps is not None and steps["mean"] != expected:
            remarks.append(
                f"{name}: region-text accuracy over {steps['mean']:.0f} steps instead of {expected:.0f}, because it "
                "uses other regions"
            )
    return remarks


def rich_table(summary: Mapping[str, Any]) -> Table:
    """Table for the terminal."""
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
    """Table in Markdown."""
    titles = ["config", *(column.title for column in COLUMNS), "runs", "min/run"]
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for name, row in summary["rows"].items():
        values = ["<br>".join(cells(row, column)) for column in COLUMNS]
        lines.append(f"| {' | '.join([name, *values, _runs(row), _minutes(row)])} |")
    return "\n".join([*lines, "", CAPTION.format(reference=summary["reference"]), "", *notes(summary)]).rstrip() + "\n"


def csv_text(summary: Mapping[str, Any]) -> str:
    """CSV with one row per config and metric."""
    fields = ("config", "metric", "runs", "mean", "half_width", "difference", "difference_half_width")
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for name, row in summary["rows"].items():
        for key, metric in row["metrics"].items():
            writer.writerow(dict(config=name, metric=key, runs=len(metric["by_seed"]), **metric))
    return out.getvalue()


def write_tables(summary: Mapping[str, Any], folder: Path) -> None:
    """Write ``table.json``, ``table.csv`` and ``table.md``."""
    write_json(folder / "table.json", dict(summary))
    for name, text in (("table.csv", csv_text(summary)), ("table.md", markdown(summary))):
        AtomicLocalBackend().put_text(text, folder / name)


def _with_interval(value: float, half: float, form: str) -> str:
    return f"{value:{form}}" + (f" ± {half:{form.lstrip('+')}}" if math.isfinite(half) else "")


def _runs(row: Mapping[str, Any]) -> str:
    return f"{row['runs']}, failed" if row["failed"] else str(row["runs"])


def _minutes(row: Mapping[str, Any]) -> str:
    return f"{row['minutes']:.1f}" if row["runs"] else ""
