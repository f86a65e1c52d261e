"""Scores of models on the same cases, with paired differences to the first model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ctvlm.engine.cli.dump_metrics import default_metrics, finding_names, missing_data, score_dump
from ctvlm.engine.cli.metrics_table import MetricRow, metric_rows
from ctvlm.evaluation.functional import Resamples, paired_interval
from ctvlm.experiments.comparison.cost import InferenceCost
from ctvlm.utils import CTVLMError


@dataclass(frozen=True)
class Difference:
    """Value of a model minus that of the first model; NaN bounds without an interval."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval has both bounds on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass
class ModelScores:
    """One row of the table.

    Attributes:
        rows: metric to its value, interval, chance level, N and protocol.
        differences: metric to the difference to the first model; only metrics over the same items.
        remark: warning about the weights, or "".
        cost: None for predictions of a file that contains none.
        missing: metric prefix to the data that the predictions lack.
    """

    name: str
    rows: dict[str, MetricRow]
    remark: str = ""
    cost: InferenceCost | None = None
    differences: dict[str, Difference] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return dict(
            name=self.name,
            remark=self.remark,
            metrics={
                key: asdict(row) | dict(difference=asdict(self.differences[key]) if key in self.differences else None)
                for key, row in self.rows.items()
            },
            cost=asdict(self.cost) if self.cost else None,
            not_scored=self.missing,
        )


def compare_models(
    dumps: Mapping[str, Mapping[str, Any]],
    protocols: list[str],
    bootstrap: int = 1000,
) -> list[ModelScores]:
    """Score dumps of the same cases (see ``check_same_cases``), in their order.

    Intervals resample patients. All models use the same resamples, so that the interval of a difference is that of
    the paired differences.

    Args:
        dumps: name of a model to its dump.
        protocols: published protocols to score, besides the metrics without a protocol.
        bootstrap: resamples of patients; 0 computes no intervals.

    Raises:
        CTVLMError: no metric can be scored for a model.
    """
    out: list[ModelScores] = []
    first: dict[str, Resamples] = {}
    for name, dump in dumps.items():
        scores, resamples = _scored(name, dump, protocols, bootstrap)
        if out:
            scores.differences = _differences(out[0].rows, first, scores.rows, resamples)
        else:
            first = resamples
        out.append(scores)
    return out


def _scored(
    name: str, dump: Mapping[str, Any], protocols: list[str], bootstrap: int
) -> tuple[ModelScores, dict[str, Resamples]]:
    metrics: list[Any] = default_metrics(finding_names(dump["cases"]), bootstrap, protocols=protocols)
    missing = {str(metric.prefix or metric.default_prefix): missing_data(metric, dump) for metric in metrics}
    scored = [metric for metric in metrics if not missing[str(metric.prefix or metric.default_prefix)]]
    if not scored:
        raise CTVLMError(
            f"{name}: found the keys {sorted(dump['cases'][0])}, which no metric can be scored from. Write the dump "
            "with the metric DumpPredictions"
        )
    results = score_dump(dump, scored)
    resamples = {
        f"{metric.prefix or metric.default_prefix}/{key}": values
        for metric in scored
        for key, values in metric.resamples.items()
    }
    rows = {row.metric: row for row in metric_rows(results)}
    cost = InferenceCost.of_dump(dump["cost"]) if dump.get("cost") else None
    missing = {prefix: keys for prefix, keys in missing.items() if keys}
    return ModelScores(name, rows, dump["remark"], cost, missing=missing), resamples


def _differences(
    first_rows: Mapping[str, MetricRow],
    first: Mapping[str, Resamples],
    rows: Mapping[str, MetricRow],
    resamples: Mapping[str, Resamples],
) -> dict[str, Difference]:
    """Differences of the metrics that both models have over the same number of items."""
    out = {}
    for key, row in rows.items():
        other = first_rows.get(key)
        if other is None or row.n != other.n:
            continue
        bounds: tuple[float, float] | None = (math.nan, math.nan)
        if key in first and key in resamples:
            bounds = paired_interval(first[key], resamples[key])
        if bounds is not None:
            out[key] = Difference(float(row.value) - float(other.value), *bounds)
    return out
