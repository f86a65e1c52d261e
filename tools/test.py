"""Test a checkpoint.

python tools/test.py configs/vit3d_cot_contrastive.py work_dirs/.../epoch_7.pth
python tools/test.py configs/evaluation/phantom_full.py work_dirs/.../epoch_7.pth --bootstrap 1000 --out predictions.pt

Prints a table and writes test_results.json and test_results.csv to the work folder. With a dump of predictions,
tools/analysis_tools/eval_predictions.py computes metrics again without the model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ctvlm.engine import (
    ConfigError,
    ConfigOptions,
    CTVLMRunner,
    init_distributed,
    load_config,
    quiet_warnings,
    read_checkpoint,
    run_tool,
    set_work_dir,
)
from ctvlm.engine.cli.evaluator_config import dump_config, link_dev_thresholds, metric_configs, with_bootstrap
from ctvlm.engine.cli.metrics_table import write_metrics

# Config keys that this tool sets from its own arguments.
ARGUMENTS = {
    "launcher": "--launcher",
    "load_from": "CHECKPOINT",
    "resume": "CHECKPOINT",
    "load_strict": "CHECKPOINT (whose weights must fit the model)",
}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Test a checkpoint on the test data of a config.")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--work-dir", help="folder for the log (default: work_dirs/<config name>)")
    parser.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help="write predictions to a .pt file, or metrics to a .json or .csv file; can be repeated",
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        metavar="N",
        help="bootstrap resamples of patients for 95%% intervals, for example 1000",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and the complete log")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)  # passed by old launchers
    args = parser.parse_args()
    for out in args.out:
        if Path(out).suffix.lower() not in (".pt", ".json", ".csv"):
            parser.error(f"--out: found '{out}'; expected a .pt (predictions), .json or .csv (metrics) file")
    if args.bootstrap is not None and args.bootstrap < 1:
        parser.error(f"--bootstrap is {args.bootstrap}; expected at least 1")
    return args


def set_metrics(cfg: Config, args: argparse.Namespace) -> bool:
    """Add intervals, thresholds and dumps to the config's metrics. Returns whether the dev split must run first."""
    metrics: list[Any] = metric_configs(cfg)
    if args.bootstrap:
        metrics = with_bootstrap(metrics, args.bootstrap)
    dev_metrics, metrics = link_dev_thresholds(metrics, cfg.work_dir)
    if dev_metrics and cfg.get("val_dataloader") is None:
        raise ConfigError(
            f"config {args.config}: a metric has thresholds='dev', but there is no val_dataloader to fit them on. Add "
            "one, or set thresholds to a JSON file"
        )
    if dev_metrics:
        cfg.val_evaluator = dev_metrics
        # Do not save a best checkpoint after the evaluation of the dev split.
        (cfg.default_hooks.get("checkpoint") or {}).pop("save_best", None)
    cfg.test_evaluator = metrics + [dump_config(metrics, out) for out in args.out if out.lower().endswith(".pt")]
    return bool(dev_metrics)


def main() -> None:
    """Load the config and the checkpoint, and test."""
    args = parse_args()
    quiet_warnings()
    # custom_imports may name modules of projects/, which is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    cfg = load_config(args.config, args.cfg_options, ARGUMENTS)
    if cfg.get("test_dataloader") is None:
        raise ConfigError(f"config {args.config} has no test_dataloader")
    read_checkpoint(args.checkpoint)  # report a wrong path before the data set is built
    set_work_dir(cfg, args.work_dir)
    cfg.launcher, cfg.load_from, cfg.resume, cfg.load_strict = args.launcher, args.checkpoint, False, True
    dev_first = set_metrics(cfg, args)
    init_distributed(args.launcher)
    runner = CTVLMRunner.from_cfg(cfg)
    if dev_first:
        runner.val()
    metrics = runner.test()
    if runner.rank == 0:
        for out in args.out:
            if not out.lower().endswith(".pt"):
                write_metrics(out, metrics, config=args.config, checkpoint=args.checkpoint)
        for path in (*args.out, *(f"{runner.work_dir}/test_results.{kind}" for kind in ("json", "csv"))):
            print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
