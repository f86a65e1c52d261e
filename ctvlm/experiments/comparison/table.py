"""Tables of a comparison: terminal, Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from rich.table import Table

from ctvlm.engine.cli.metrics_table import MetricRow
from ctvlm.evaluation.functional.published import PublishedFigure
from ctvlm.experiments.comparison.cost import InferenceCost
from ctvlm.experiments.comparison.scores import ModelScores

# Metrics of the Markdown table and of the terminal, in the order of the columns. CSV and JSON contain all.
COLUMNS = (
    "zero_shot_*/auroc", "classification_*/auroc", "retrieval*/t2i_R@10", "retrieval*/t2i_MRR", "retrieval*/i2t_MRR",
    "pool_retrieval_*/pool32_R@1", "image_retrieval_*/MAP@5", "region_text/accuracy", "step_text/auc",
    "opposite_text/accuracy", "step_attention/pointing", "step_attention/slice_error_mm", "localisation/dice",
    "slice_localisation/mae_mm",
)  # fmt: skip
COST_COLUMNS: dict[str, Callable[[InferenceCost], str]] = {
    "input voxels": lambda cost: " x ".join(map(str, cost.shape)),
    "parameters": lambda cost: f"{cost.parameters:,}",
    "GFLOP": lambda cost: f"{cost.flops / 1e9:,.2f}",
    "s/case": lambda cost: f"{cost.seconds:.3f}",
    "peak MiB": lambda cost: f"{cost.peak_bytes / 2**20:,.1f}",
}
CSV_FIELDS = (
    "model", "remark", "metric", "value", "low", "high", "difference", "difference_low", "difference_high", "chance",
    "n", "protocol", "threshold_rule",
)  # fmt: skip


def columns_of(models: Sequence[ModelScores]) -> list[str]:
    """Metrics of the columns that are defined for at least one model."""
    found = dict.fromkeys(key for model in models for key, row in model.rows.items() if math.isfinite(row.value))
    return list(dict.fromkeys(key for pattern in COLUMNS for key in found if fnmatchcase(key, pattern)))


def rich_table(models: Sequence[ModelScores], title: str) -> Table:
    """Table for the terminal with models as columns, because the screen is narrower than the Markdown table."""
    table = Table(title=title, title_justify="left", caption=caption(models), caption_justify="left", show_lines=True)
    table.add_column("metric", overflow="fold")
    for model in models:
        table.add_column(label(model), justify="right", overflow="fold")
    for key in columns_of(models):
        table.add_row(key, *("\n".join(cell(model, key)) for model in models))
    for name, form in COST_COLUMNS.items():
        table.add_row(name, *(form(model.cost) if model.cost else "" for model in models))
    return table


def markdown(models: Sequence[ModelScores], title: str, published: Sequence[PublishedFigure]) -> str:
    """The table with one row per model, the items of each metric, and the published figures in a table of their own."""
    keys = columns_of(models)
    lines = [
        f"# {title}",
        "",
        *_markdown_rows(["model", *keys, *COST_COLUMNS], [_row(model, keys) for model in models]),
    ]
    lines += ["", caption(models), ""]
    lines += _markdown_rows(["metric", "protocol", "N"], [_items(models, key) for key in keys])
    lines += ["", *notes(models)]
    lines += ["", "## Published figures", "", "Not measured here. They have other cases, prompts and rules.", ""]
    lines += _markdown_rows(
        ["model", "data set", "metric", "value", "protocol", "N", "source"],
        [[p.model, p.data_set, p.metric, f"{p.value:g}", p.protocol, _number(p.n), p.source] for p in published],
    )
    return "\n".join(lines).rstrip() + "\n"


def csv_text(models: Sequence[ModelScores]) -> str:
    """One row per model and metric; the costs follow the metrics of a model."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for model in models:
        start = dict(model=model.name, remark=model.remark)
        for key, row in model.rows.items():
            writer.writerow(start | {name: _plain(value) for name, value in _csv_row(model, key, row).items()})
        for name, value in (model.cost.numbers() if model.cost else {}).items():
            writer.writerow(start | dict(metric=f"cost/{name}", value=value))
    return out.getvalue()


def published_csv(published: Sequence[PublishedFigure]) -> str:
    """One row per published figure."""
    out = io.StringIO()
    rows = [figure.to_dict() for figure in published]
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def cell(model: ModelScores, key: str) -> list[str]:
    """Lines of a cell: the value with its interval, and the difference to the first model."""
    row = model.rows.get(key)
    if row is None or not math.isfinite(row.value):
        return [""]
    form = ".1f" if key.endswith("_mm") else ".3f"
    lines = [_with_interval(row.value, row.low, row.high, form)]
    if difference := model.differences.get(key):
        star = " *" if difference.excludes_zero else ""
        lines.append("Δ " + _with_interval(difference.value, difference.low, difference.high, "+" + form) + star)
    return lines


def label(model: ModelScores) -> str:
    """Name of a model with the remark on its weights."""
    short = model.remark.partition(":")[0].removeprefix("these weights were ")
    return f"{model.name} ({short})" if short else model.name


def caption(models: Sequence[ModelScores]) -> str:
    """Explanation of the cells."""
    text = (
        "In brackets: 95% intervals over patients, where the metric supports them. "
        f"Δ: difference to {models[0].name}, paired by the same resamples of patients; * if its interval excludes 0. "
    )
    if devices := dict.fromkeys(model.cost.device for model in models if model.cost):
        text += f"Cost of the embedding of one case in memory, on {' and '.join(devices)}. "
    return text + "The CSV and JSON files contain all metrics."


def notes(models: Sequence[ModelScores]) -> list[str]:
    """Remarks on the weights, and metrics that were not scored, or not compared because their items differ."""
    lines = [f"- {model.name}: {model.remark}." for model in models if model.remark]
    unknown = [model.name for model in models if not model.remark and model.cost is None]
    lines += [f"- {', '.join(unknown)}: predictions of a file; the training data are not known."] if unknown else []
    prefixes = list(dict.fromkeys(key.partition("/")[0] for key in columns_of(models)))
    for model in models:
        missing = [f"{prefix} ({', '.join(model.missing[prefix])})" for prefix in prefixes if prefix in model.missing]
        lines += (
            [f"- {model.name}: not scored because the predictions lack data: {'; '.join(missing)}."] if missing else []
        )
    first = models[0]
    for model in models[1:]:
        other = [
            f"{key} (N: {model.rows[key].n}, {first.name}: {first.rows[key].n})"
            for key in columns_of(models)
            if key in model.rows and key in first.rows and key not in model.differences
        ]
        lines += [f"- {model.name}: no difference over other items: {', '.join(other)}."] if other else []
    return lines


def _row(model: ModelScores, keys: Sequence[str]) -> list[str]:
    costs = [form(model.cost) if model.cost else "" for form in COST_COLUMNS.values()]
    return [label(model), *("<br>".join(cell(model, key)) for key in keys), *costs]


def _items(models: Sequence[ModelScores], key: str) -> list[str]:
    rows = [model.rows[key] for model in models if key in model.rows]
    return [key, rows[0].protocol, " / ".join(dict.fromkeys(_number(row.n) for row in rows))]


def _markdown_rows(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in ([*titles], ["---"] * len(titles), *escaped)]


def _csv_row(model: ModelScores, key: str, row: MetricRow) -> Mapping[str, Any]:
    values = {name: getattr(row, name) for name in CSV_FIELDS if hasattr(row, name)}
    if difference := model.differences.get(key):
        values |= dict(difference=difference.value, difference_low=difference.low, difference_high=difference.high)
    return values


def _with_interval(value: float, low: float | None, high: float | None, form: str) -> str:
    text = f"{value:{form}}"
    if low is None or high is None or not math.isfinite(low + high):
        return text
    return f"{text} [{low:{form}}, {high:{form}}]"


def _number(n: Any) -> str:
    return "not stated" if n is None else f"{n:,}" if isinstance(n, int) else str(n)


def _plain(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
