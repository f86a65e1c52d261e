"""Score a dump of predictions without the model.

python tools/analysis_tools/eval_predictions.py predictions.pt --bootstrap 1000 --out scores.json
python tools/analysis_tools/eval_predictions.py predictions.pt --config configs/vit3d_cot_contrastive.py

The metric DumpPredictions writes the dump. With a config, its test_evaluator is scored; by default, every metric whose
data the dump contains. Metrics whose data are not in the dump are listed with the missing keys.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctvlm.engine import ConfigError, ConfigOptions, quiet_warnings, run_tool
from ctvlm.engine.cli.console import stdout_console

if TYPE_CHECKING:
    from mmengine.evaluator import BaseMetric


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Score a dump of predictions without the model.")
    parser.add_argument("dump", help="the .pt file that DumpPredictions wrote")
    parser.add_argument("--config", help="score with this config's test_evaluator")
    parser.add_argument(
        "--bootstrap", type=int, default=0, metavar="N", help="patient resamples for 95%% intervals, such as 1000"
    )
    parser.add_argument(
        "--thresholds",
        help="JSON file of thresholds from a dev split (protocol ctvlm); tools/test.py writes it in its work folder",
    )
    parser.add_argument("--plots", metavar="DIR", help="write figures: metrics, ROC, reliability, map of embeddings")
    parser.add_argument("--out", help="write the metrics to this .json or .csv file")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args()
    if args.out and Path(args.out).suffix.lower() not in (".json", ".csv"):
        parser.error(f"--out: found '{args.out}'; expected a .json or .csv file")
    return args


def default_metrics(dump: dict[str, Any], bootstrap: int, thresholds: str | None) -> list[BaseMetric]:
    """Metrics to score without a config."""
    from ctvlm.evaluation import (
        AlignmentMetric,
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

    without_protocol = (
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
    metrics: list[BaseMetric] = [kind(bootstrap=bootstrap) for kind in without_protocol]
    published = [protocol for name, protocol in RETRIEVAL_PROTOCOLS.items() if name != "ctvlm"]
    metrics += [RetrievalMetric(protocol=p.name, bootstrap=bootstrap) for p in published if p.topk]
    metrics += [PoolRetrievalMetric(p.name) for p in published if p.pool_sizes]
    names = sorted({name for case in dump["cases"] for name in case.get("labels") or {}}) or None
    metrics += [ImageRetrievalMetric(p.name, names) for p in published if p.image_rule]
    for protocol in PROTOCOLS.values():
        # Protocols that fold findings are for one data set; only a config selects them.
        if protocol.fold is None and (names is None or protocol.select(names)):
            settings: dict[str, Any] = dict(names=names, thresholds=thresholds, bootstrap=bootstrap)
            metrics.append(ClassificationMetric(protocol.name, **settings))
            metrics.append(ZeroShotClassificationMetric(protocol.name, **settings))
    return metrics


def missing_data(metric: BaseMetric, dump: dict[str, Any]) -> list[str]:
    """Data that the metric needs and no case of the dump contains; empty if the metric can be scored."""
    from ctvlm.evaluation import CaseMetric

    available = {key for case in dump["cases"] for key, value in case.items() if value is not None and value != {}}
    missing = metric.missing_keys(available) if isinstance(metric, CaseMetric) else []
    if hasattr(metric, "prompts") and not dump["prompts"].keys() >= set(metric.prompts()):
        missing.append("embeddings of its prompts")
    return missing


def skipped_lines(skipped: list[tuple[BaseMetric, list[str]]]) -> str:
    """One line per set of missing data with the metrics that need it."""
    metrics: dict[str, list[str]] = {}
    for metric, missing in skipped:
        metrics.setdefault(", ".join(missing), []).append(metric.prefix or metric.default_prefix)
    return "\n".join(f"not scored, the dump has no {keys}: {', '.join(names)}" for keys, names in metrics.items())


def configured_metrics(args: argparse.Namespace) -> list[BaseMetric]:
    """Metrics of the config's test_evaluator, without those that write dumps."""
    from ctvlm.engine import load_config
    from ctvlm.engine.cli.evaluator_config import metric_configs, with_bootstrap, without_dumps
    from ctvlm.registry import METRICS

    cfg = load_config(args.config, args.cfg_options)
    metrics = without_dumps(metric_configs(cfg))
    if not metrics:
        raise ConfigError(f"{args.config}: found no metrics in test_evaluator. Add the metrics to score")
    for metric in metrics:
        if metric.get("thresholds") == "dev":
            metric["thresholds"] = args.thresholds
    if args.bootstrap:
        metrics = with_bootstrap(metrics, args.bootstrap)
    return [METRICS.build(metric) for metric in metrics]


def score(dump: dict[str, Any], metrics: list[BaseMetric]) -> dict[str, float]:
    """Results of all metrics on the cases of a dump."""
    results: dict[str, float] = {}
    for metric in metrics:
        if hasattr(metric, "set_prompt_embeddings") and dump["prompts"]:
            metric.set_prompt_embeddings(dump["prompts"], dump["scale"])
        metric.process(None, dump["cases"])
        results |= metric.evaluate(len(dump["cases"]))
    return results


def main() -> None:
    """Load the dump, score it, print and write the results."""
    args = parse_args()
    from ctvlm.engine.cli.metrics_table import data_origin, table_title, write_metrics
    from ctvlm.engine.cli.result_plots import write_plots
    from ctvlm.engine.cli.results_tables import print_results
    from ctvlm.evaluation import load_dump
    from ctvlm.utils import check_out_file, check_out_folder

    quiet_warnings()
    if args.out:
        check_out_file("--out", args.out)
    if args.plots:
        check_out_folder("--plots", args.plots)
    # custom_imports of a config may name modules in projects/, which are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    dump = load_dump(args.dump)
    if not dump["cases"]:
        raise ValueError(f"{args.dump}: found no cases")
    requested = configured_metrics(args) if args.config else default_metrics(dump, args.bootstrap, args.thresholds)
    missing = [(metric, missing_data(metric, dump)) for metric in requested]
    metrics = [metric for metric, data in missing if not data]
    skipped = skipped_lines([(metric, data) for metric, data in missing if data])
    if not metrics:
        found = sorted(dump["cases"][0])
        raise ValueError(f"{args.dump}: found the keys {found}, which no metric can be scored from.\n{skipped}")
    results = score(dump, metrics)
    origin = data_origin(dump["cases"])
    title = table_title(f"{len(dump['cases'])} cases of {args.dump}", origin)
    print_results(stdout_console(), results, title)
    if skipped:
        print(skipped)
    if dump["remark"]:
        print(f"warning: {dump['remark']}")
    if args.plots:
        print("\n".join(f"written: {path}" for path in write_plots(args.plots, dump, results)))
    if args.out:
        write_metrics(args.out, results, dump=args.dump, **origin)
        print(f"written: {args.out}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
