"""Score a dump of predictions again, without the model.

python tools/analysis_tools/eval_predictions.py predictions.pt --bootstrap 1000 --out scores.json
python tools/analysis_tools/eval_predictions.py predictions.pt --config configs/vit3d_cot_contrastive.py

The dump is what the metric DumpPredictions writes. Without a config, everything that the dump has the data for is
scored.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from ctvlm.engine import ConfigError, ConfigOptions, load_config, quiet_warnings, run_tool
from ctvlm.engine.cli.console import stdout_console
from ctvlm.engine.cli.evaluator_config import metric_configs, with_bootstrap, without_dumps
from ctvlm.engine.cli.metrics_table import data_origin, metrics_table, table_title, write_metrics
from ctvlm.evaluation import (
    AlignmentMetric,
    ClassificationMetric,
    EmbeddingHealthMetric,
    ImageRetrievalMetric,
    LocalisationMetric,
    PoolRetrievalMetric,
    RegionReportMetric,
    RegionRetrievalMetric,
    RegionTextMetric,
    ReportGenerationMetric,
    RetrievalMetric,
    SliceLocalisationMetric,
    StepTextMetric,
    ZeroShotClassificationMetric,
    load_dump,
)
from ctvlm.evaluation.functional import PROTOCOLS, RETRIEVAL_PROTOCOLS
from ctvlm.registry import METRICS

# What each metric needs in a case, to be scored without being asked for.
NEEDS = {
    RetrievalMetric: ("pred_volume", "pred_impression"),
    RegionTextMetric: ("pred_steps", "pred_regions"),
    RegionRetrievalMetric: ("pred_steps", "pred_regions"),
    StepTextMetric: ("pred_steps", "pred_patches"),
    AlignmentMetric: ("pred_step_attention", "patch_occupancy"),
    ReportGenerationMetric: ("pred_report",),
    RegionReportMetric: ("pred_cot", "steps"),
}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Score a dump of predictions without the model.")
    parser.add_argument("dump", help="the .pt file that DumpPredictions wrote")
    parser.add_argument("--config", help="score with this config's test_evaluator")
    parser.add_argument(
        "--bootstrap", type=int, default=0, help="resamples of patients for 95%% intervals, such as 1000"
    )
    parser.add_argument(
        "--thresholds",
        help="JSON of thresholds from a dev split, for the protocol ctvlm; tools/test.py writes one beside its results",
    )
    parser.add_argument("--out", help="write the metrics to this .json or .csv file")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args()
    if args.out and Path(args.out).suffix.lower() not in (".json", ".csv"):
        parser.error(f"--out takes a .json or .csv file, found '{args.out}'")
    return args


def possible_metrics(dump: dict[str, Any], bootstrap: int, thresholds: str | None) -> list[BaseMetric]:
    """Every metric that the dump has the data for."""
    keys = set.intersection(*(set(case) for case in dump["cases"]))
    metrics: list[BaseMetric] = [kind(bootstrap=bootstrap) for kind, needs in NEEDS.items() if keys.issuperset(needs)]
    if keys.issuperset(NEEDS[RetrievalMetric]):
        metrics.append(EmbeddingHealthMetric())
        published = [protocol for name, protocol in RETRIEVAL_PROTOCOLS.items() if name != "ctvlm"]
        metrics += [RetrievalMetric(protocol=p.name, bootstrap=bootstrap) for p in published if p.topk]
        metrics += [PoolRetrievalMetric(p.name) for p in published if p.pool_sizes]
    lesions = any(case.get("lesion_map") is not None for case in dump["cases"])
    if lesions and (keys.issuperset({"pred_step_attention", "pred_grid"}) or "pred_lesion_map" in keys):
        metrics.append(LocalisationMetric(bootstrap=bootstrap))
    if lesions and keys.issuperset({"pred_step_attention", "pred_grid"}):
        metrics.append(SliceLocalisationMetric(bootstrap=bootstrap))
    names = sorted({name for case in dump["cases"] for name in case.get("labels") or {}})
    if names and "pred_volume" in keys:
        rules = [p.name for p in RETRIEVAL_PROTOCOLS.values() if p.image_rule]
        metrics += [ImageRetrievalMetric(name, names) for name in rules]
    # Protocols that fold findings belong to one data set: a config asks for them.
    for protocol in [p.name for p in PROTOCOLS.values() if p.fold is None and p.select(names)]:
        settings = dict(names=names, thresholds=thresholds, bootstrap=bootstrap)
        if "pred_probabilities" in keys:
            metrics.append(ClassificationMetric(protocol, **settings))
        zero_shot = ZeroShotClassificationMetric(protocol, **settings)
        if "pred_volume" in keys and dump["prompts"].keys() >= set(zero_shot.prompts()):
            metrics.append(zero_shot)
    return metrics


def configured_metrics(args: argparse.Namespace) -> list[BaseMetric]:
    """The metrics of a config's test_evaluator, but for those that write dumps."""
    cfg = load_config(args.config, args.cfg_options)
    metrics = without_dumps(metric_configs(cfg))
    if not metrics:
        raise ConfigError(f"the config {args.config} has no test_evaluator: there is nothing to score with")
    for metric in metrics:
        if metric.get("thresholds") == "dev":
            metric["thresholds"] = args.thresholds
    if args.bootstrap:
        metrics = with_bootstrap(metrics, args.bootstrap)
    return [METRICS.build(metric) for metric in metrics]


def score(dump: dict[str, Any], metrics: list[BaseMetric]) -> dict[str, float]:
    """All metrics over the cases of a dump."""
    results: dict[str, float] = {}
    for metric in metrics:
        if hasattr(metric, "set_prompt_embeddings") and dump["prompts"]:
            metric.set_prompt_embeddings(dump["prompts"], dump["scale"])
        metric.process(None, dump["cases"])
        results |= metric.evaluate(len(dump["cases"]))
    return results


def main() -> None:
    """Read, score, print, write."""
    args = parse_args()
    quiet_warnings()
    # custom_imports name modules of projects/, which are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    dump = load_dump(args.dump)
    if not dump["cases"]:
        raise ValueError(f"{args.dump} holds no case.")
    metrics = configured_metrics(args) if args.config else possible_metrics(dump, args.bootstrap, args.thresholds)
    if not metrics:
        raise ValueError(f"{args.dump} holds no predictions that a metric knows: found {sorted(dump['cases'][0])}.")
    results = score(dump, metrics)
    origin = data_origin(dump["cases"])
    title = table_title(f"{len(dump['cases'])} cases of {args.dump}", origin)
    stdout_console().print(metrics_table(results, title))
    if dump["remark"]:
        print(f"warning: {dump['remark']}")
    if args.out:
        write_metrics(args.out, results, dump=args.dump, **origin)
        print(f"metrics written to {args.out}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
