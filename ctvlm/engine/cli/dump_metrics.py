"""Metrics that a dump of predictions is scored with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from ctvlm.evaluation import (
    AlignmentMetric,
    CaseMetric,
    ClassificationMetric,
    EmbeddingHealthMetric,
    ImageRetrievalMetric,
    LocalisationMetric,
    OppositeTextMetric,
    PoolRetrievalMetric,
    RegionReportMetric,
    RegionRetrievalMetric,
    RegionTextMetric,
    ReportGenerationMetric,
    RetrievalMetric,
    SliceLocalisationMetric,
    StepTextMetric,
    ZeroShotClassificationMetric,
)
from ctvlm.evaluation.functional import PROTOCOLS, RETRIEVAL_PROTOCOLS
from ctvlm.utils import CTVLMError

_WITHOUT_PROTOCOL = (
    RetrievalMetric,
    EmbeddingHealthMetric,
    RegionTextMetric,
    RegionRetrievalMetric,
    StepTextMetric,
    OppositeTextMetric,
    AlignmentMetric,
    LocalisationMetric,
    SliceLocalisationMetric,
    ReportGenerationMetric,
    RegionReportMetric,
)


def check_protocols(names: Iterable[str]) -> None:
    """Raise a CTVLMError for a name that is neither a protocol of classification nor of retrieval."""
    known = list(dict.fromkeys([*PROTOCOLS, *RETRIEVAL_PROTOCOLS]))
    if unknown := [name for name in names if name not in known]:
        raise CTVLMError(f"--protocols: found {', '.join(unknown)}; expected some of {', '.join(known)}")


def finding_names(cases: Iterable[Mapping[str, Any]]) -> list[str] | None:
    """Findings that have labels in any case; None without labels."""
    return sorted({name for case in cases for name in case.get("labels") or {}}) or None


def default_metrics(
    names: Sequence[str] | None,
    bootstrap: int = 0,
    thresholds: str | None = None,
    protocols: Collection[str] | None = None,
) -> list[BaseMetric]:
    """Metrics to score without a config.

    Args:
        names: findings with labels, see ``finding_names``.
        protocols: published protocols to score. None: all, except those that fold findings, which are for one data set.
    """
    metrics: list[BaseMetric] = [kind(bootstrap=bootstrap) for kind in _WITHOUT_PROTOCOL]
    published = [
        protocol
        for name, protocol in RETRIEVAL_PROTOCOLS.items()
        if name != "ctvlm" and (protocols is None or name in protocols)
    ]
    metrics += [RetrievalMetric(protocol=p.name, bootstrap=bootstrap) for p in published if p.topk]
    metrics += [PoolRetrievalMetric(p.name) for p in published if p.pool_sizes]
    metrics += [ImageRetrievalMetric(p.name, names) for p in published if p.image_rule]
    for protocol in PROTOCOLS.values():
        chosen = protocol.fold is None if protocols is None else protocol.name in protocols
        if chosen and (names is None or protocol.select(list(names))):
            settings: dict[str, Any] = dict(names=names, thresholds=thresholds, bootstrap=bootstrap)
            metrics.append(ClassificationMetric(protocol.name, **settings))
            metrics.append(ZeroShotClassificationMetric(protocol.name, **settings))
    return metrics


def missing_data(metric: BaseMetric, dump: Mapping[str, Any]) -> list[str]:
    """Data that the metric needs and no case of the dump contains; empty if the metric can be scored."""
    available = {key for case in dump["cases"] for key, value in case.items() if value is not None and value != {}}
    missing = metric.missing_keys(available) if isinstance(metric, CaseMetric) else []
    if hasattr(metric, "prompts") and not dump["prompts"].keys() >= set(metric.prompts()):
        missing.append("embeddings of its prompts")
    return missing


def skipped_lines(skipped: Iterable[tuple[BaseMetric, list[str]]]) -> str:
    """One line per set of missing data with the metrics that need it."""
    metrics: dict[str, list[str]] = {}
    for metric, missing in skipped:
        metrics.setdefault(", ".join(missing), []).append(str(metric.prefix or metric.default_prefix))
    return "\n".join(f"not scored, the dump has no {keys}: {', '.join(names)}" for keys, names in metrics.items())


def score_dump(dump: Mapping[str, Any], metrics: Iterable[Any]) -> dict[str, Any]:
    """Results of all metrics on the cases of a dump."""
    results: dict[str, Any] = {}
    for metric in metrics:
        if hasattr(metric, "set_prompt_embeddings") and dump["prompts"]:
            metric.set_prompt_embeddings(dump["prompts"], dump["scale"])
        metric.process(None, dump["cases"])
        results |= metric.evaluate(len(dump["cases"]))
    return results
