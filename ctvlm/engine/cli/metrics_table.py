"""Rows of metrics, and their JSON and CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from ctvlm.engine.checkpoint.files import AtomicLocalBackend, write_json
from ctvlm.evaluation.functional.protocols import THRESHOLD_FREE
from ctvlm.utils.code_version import code_version

# Protocol of metrics that follow this project's own definitions.
OWN_PROTOCOL = "ctvlm"
# Keys of data samples that describe the data: the evaluation set, and the source of the labels.
ORIGIN = ("evaluation_set", "labels_source")


@dataclass(frozen=True)
class MetricRow:
    """One metric with its interval, chance level, number of cases, protocol and threshold rule; None if unknown."""

    metric: str
    value: Any
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    n: int | str | None = None
    protocol: str = OWN_PROTOCOL
    threshold_rule: str | None = None


def metric_rows(metrics: Mapping[str, Any]) -> list[MetricRow]:
    """Group flat metrics into rows.

    - ``<name>_low`` and ``<name>_high``: the interval,
    - ``<name>_chance`` or ``<prefix>/chance``: the chance level,
    - ``<prefix>/num_...``: the number of cases (with names, if there are several numbers),
    - ``<prefix>/protocol``: the protocol (default ``ctvlm``),
    - ``<prefix>/threshold_rule``: the threshold rule of scores that need a threshold,
    - ``<name>_reason``: why a value is NaN, and ``<prefix>/baseline``: what the chance levels are the scores of; both
      for the terminal (``results_tables``).

    Other strings are not metrics. Scores of one finding or stage (``<prefix>/<finding>/<name>``) use the values of
    ``<prefix>`` where they have none.
    """
    with_interval = {key for key in metrics if f"{key}_low" in metrics and f"{key}_high" in metrics}
    rows = []
    for key, value in metrics.items():
        prefix, _, name = key.rpartition("/")
        bound = name.endswith(("_low", "_high")) and key.rpartition("_")[0] in with_interval
        if bound or name.endswith("chance") or name.startswith("num_") or isinstance(value, str):
            continue
        low, high = (metrics[f"{key}_low"], metrics[f"{key}_high"]) if key in with_interval else (None, None)
        chance = metrics.get(f"{key}_chance", metrics.get(f"{prefix}/chance"))
        prefixes = (prefix, prefix.partition("/")[0])
        protocol = next((metrics[f"{p}/protocol"] for p in prefixes if f"{p}/protocol" in metrics), OWN_PROTOCOL)
        rule = None
        if name.removesuffix("_prevalence") not in (*THRESHOLD_FREE, "findings_scored"):
            rule = next((metrics[f"{p}/threshold_rule"] for p in prefixes if f"{p}/threshold_rule" in metrics), None)
        n = next((count for p in prefixes if (count := _count(metrics, p)) is not None), None)
        rows.append(MetricRow(key, value, low, high, chance, n, protocol, rule))
    return rows


def _count(metrics: Mapping[str, Any], prefix: str) -> int | str | None:
    """The number of cases of a prefix; if there are several numbers, a text with their names."""
    start = f"{prefix}/num_"
    counts = {key.removeprefix(start): n for key, n in metrics.items() if key.startswith(start)}
    if len(counts) > 1:
        return ", ".join(f"{n} {name}" for name, n in counts.items())
    return next(iter(counts.values()), None)


def data_origin(samples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Evaluation sets and label sources of data samples, or of the cases of a dump."""
    values = {key: sorted({str(sample.get(key)) for sample in samples if sample.get(key)}) for key in ORIGIN}
    return {key: ", ".join(names) for key, names in values.items() if names}


def table_title(title: str, origin: Mapping[str, str]) -> str:
    """Add the evaluation set and the source of the labels to a title."""
    return ", ".join([title, *(f"{key.replace('_', ' ')} {value}" for key, value in origin.items())])


def write_metrics(path: str | Path, metrics: Mapping[str, Any], **origin: Any) -> None:
    """Write metrics to a JSON or CSV file, atomically.

    Args:
        path: a ``.json`` file contains ``metrics`` (NaN is null), their numbers of cases as ``n``, ``origin``, and the
            version and commit of ``ctvlm``. A ``.csv`` file contains one row per metric with the columns of MetricRow
            (NaN and None are empty) and the keys of ORIGIN.
        origin: further information, such as the checkpoint.

    Raises:
        ValueError: the suffix is neither ``.json`` nor ``.csv``.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        counts = {row.metric: row.n for row in metric_rows(metrics)}
        write_json(path, {**origin, "ctvlm": code_version(), "metrics": dict(metrics), "n": counts})
    elif path.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        data = {key: origin[key] for key in ORIGIN if origin.get(key)}
        writer.writerow([*(field.name for field in fields(MetricRow)), *data])
        for row in metric_rows(metrics):
            values = ["" if isinstance(x, float) and math.isnan(x) else x for x in astuple(row)]
            writer.writerow([*values, *data.values()])
        AtomicLocalBackend().put_text(text.getvalue(), path)
    else:
        raise ValueError(f"metrics file {path}: found the suffix '{path.suffix}'; expected .json or .csv")
