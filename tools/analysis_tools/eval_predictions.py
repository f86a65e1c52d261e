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
from typing import TYPE_CHECKING

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


def main() -> None:
    """Load the dump, score it, print and write the results."""
    args = parse_args()
    from ctvlm.engine.cli.dump_metrics import default_metrics, finding_names, missing_data, score_dump, skipped_lines
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
    if args.config:
        requested = configured_metrics(args)
    else:
        requested = default_metrics(finding_names(dump["cases"]), args.bootstrap, args.thresholds)
    missing = [(metric, missing_data(metric, dump)) for metric in requested]
    metrics = [metric for metric, data in missing if not data]
    skipped = skipped_lines([(metric, data) for metric, data in missing if data])
    if not metrics:
        found = sorted(dump["cases"][0])
        raise ValueError(f"{args.dump}: found the keys {found}, which no metric can be scored from.\n{skipped}")
    results = score_dump(dump, metrics)
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
