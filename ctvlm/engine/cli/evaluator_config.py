"""Read and modify the metrics of a config: intervals, dumps, and thresholds fitted on the dev split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ctvlm.engine.cli.config import ConfigError
from ctvlm.evaluation import CaseMetric, ClassificationMetric, ZeroShotClassificationMetric, needed_keys
from ctvlm.registry import METRICS
from ctvlm.text.finding_labels import CT_RATE_LABELS


def metric_configs(cfg: Config, key: str = "test_evaluator") -> list[dict[str, Any]]:
    """Copies of the metric configs of an evaluator, in any of mmengine's forms; empty without an evaluator."""
    evaluator = cfg.get(key) or []
    metrics = [evaluator] if isinstance(evaluator, Mapping) else list(evaluator)
    if len(metrics) == 1 and "metrics" in metrics[0]:
        inner = metrics[0]["metrics"]
        metrics = [inner] if isinstance(inner, Mapping) else list(inner)
    return [ConfigDict(metric) for metric in metrics]


def without_dumps(metrics: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Remove the metrics that only write files (DumpPredictions, mmengine's DumpResults)."""
    return [metric for metric in metrics if not _class(metric).__name__.startswith("Dump")]


def with_bootstrap(metrics: Iterable[Mapping[str, Any]], resamples: int) -> list[dict[str, Any]]:
    """Set the number of bootstrap resamples of all metrics that support intervals."""
    return [
        ConfigDict(metric, bootstrap=resamples) if issubclass(_class(metric), CaseMetric) else ConfigDict(metric)
        for metric in metrics
    ]


def dump_config(metrics: Iterable[dict[str, Any]], out: str | Path) -> dict[str, Any]:
    """Config of a DumpPredictions that writes what these metrics need, including the embeddings of their prompts."""
    metrics = without_dumps(metrics)
    keys = needed_keys(_declared(metric) for metric in metrics)
    zero_shot = [metric for metric in metrics if issubclass(_class(metric), ZeroShotClassificationMetric)]
    protocols = list(dict.fromkeys(metric.get("protocol", "ctvlm") for metric in zero_shot))
    names = list(dict.fromkeys(name for metric in zero_shot for name in metric.get("names") or CT_RATE_LABELS))
    settings = dict(out=str(out), protocols=protocols, names=names, keys=None if keys is None else sorted(keys))
    return ConfigDict(type="ctvlm.DumpPredictions", **settings)


def link_dev_thresholds(
    metrics: Iterable[Mapping[str, Any]], folder: str | Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Prepare the metrics with ``thresholds='dev'``, whose thresholds are fitted on the dev split.

    Returns:
        Metrics for the dev split, which fit the thresholds and write them to files (empty if there are none), and
        metrics for the test split, which read these files.
    """
    dev_metrics, test_metrics = [], []
    for metric in metrics:
        if issubclass(_class(metric), ClassificationMetric) and metric.get("thresholds") == "dev":
            name = metric.get("prefix") or f"{_class(metric).default_prefix}_{metric.get('protocol', 'ctvlm')}"
            path = str(Path(folder) / f"thresholds_{name}.json")
            dev_metrics.append(ConfigDict(metric, thresholds=None, save_thresholds=path, bootstrap=0))
            metric = ConfigDict(metric, thresholds=path)
        test_metrics.append(ConfigDict(metric))
    return dev_metrics, test_metrics


def set_test_metrics(cfg: Config, name: str, bootstrap: int | None, dumps: Iterable[str]) -> bool:
    """Add intervals, thresholds and dumps of predictions to the metrics of a config.

    Args:
        name: name of the config in error messages.
        bootstrap: number of bootstrap resamples; None keeps the config's.
        dumps: ``.pt`` files for the predictions.

    Returns:
        Whether the dev split must run first, to fit thresholds.

    Raises:
        ConfigError: a metric needs a dev split, and the config has none.
    """
    metrics: list[Any] = metric_configs(cfg)
    if bootstrap:
        metrics = with_bootstrap(metrics, bootstrap)
    dev_metrics, metrics = link_dev_thresholds(metrics, cfg.work_dir)
    if dev_metrics and cfg.get("val_dataloader") is None:
        raise ConfigError(
            f"config {name}: a metric has thresholds='dev', but there is no val_dataloader to fit them on. Add "
            "one, or set thresholds to a JSON file"
        )
    if dev_metrics:
        cfg.val_evaluator = dev_metrics
        # Do not save a best checkpoint after the evaluation of the dev split.
        (cfg.default_hooks.get("checkpoint") or {}).pop("save_best", None)
    cfg.test_evaluator = metrics + [dump_config(metrics, out) for out in dumps]
    return bool(dev_metrics)


def _declared(metric: Mapping[str, Any]) -> object:
    """The class of a metric, or the metric itself if its ``needs`` depend on options; None if it declares none."""
    kind = _class(metric)
    needs = getattr(kind, "needs", None)
    if needs is CaseMetric.needs:  # not overridden
        return None
    return METRICS.build(metric) if isinstance(needs, property) else kind


def _class(metric: Mapping[str, Any]) -> Any:
    kind = metric["type"]
    cls = METRICS.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        raise KeyError(f"{kind} is not in the ctvlm::metric registry.")
    return cls
