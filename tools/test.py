"""Test a checkpoint.

python tools/test.py configs/vit3d_cot_contrastive.py work_dirs/.../epoch_7.pth
python tools/test.py configs/evaluation/phantom_full.py work_dirs/.../epoch_7.pth --bootstrap 1000 --out predictions.pt

Prints one table and writes test_results.json and test_results.csv in the work folder. A dump of predictions is scored
again, without the model, by tools/analysis_tools/eval_predictions.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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

# Keys of the config that this tool sets from its own arguments.
ARGUMENTS = {
    "launcher": "--launcher",
    "load_from": "CHECKPOINT",
    "resume": "CHECKPOINT",
    "load_strict": "CHECKPOINT (its weights must fit)",
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
        help="predictions to this .pt, or metrics to this .json or .csv; may be given again",
    )
    parser.add_argument(
        "--bootstrap", type=int, metavar="N", help="resamples of patients for 95%% intervals, such as 1000"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and the whole log")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)  # old launchers pass it
    args = parser.parse_args()
    for out in args.out:
        if Path(out).suffix.lower() not in (".pt", ".json", ".csv"):
            parser.error(f"--out takes .pt (predictions), .json or .csv (metrics) files, found '{out}'")
    if args.bootstrap is not None and args.bootstrap < 1:
        parser.error(f"--bootstrap takes a number of resamples, found {args.bootstrap}")
    return args


def set_metrics(cfg: Config, args: argparse.Namespace) -> bool:
    """Lay intervals, thresholds and dumps over the config's metrics; whether the dev split has to be run first."""
    metrics = metric_configs(cfg)
    if args.bootstrap:
        metrics = with_bootstrap(metrics, args.bootstrap)
    fitted, metrics = link_dev_thresholds(metrics, cfg.work_dir)
    if fitted and cfg.get("val_dataloader") is None:
        raise ConfigError(
            f"the config {args.config} has a metric with thresholds='dev' and no val_dataloader to fit them on: "
            "give one, or the thresholds' JSON file"
        )
    if fitted:
        cfg.val_evaluator = fitted
        # No checkpoint is written here, whatever the dev split scores.
        (cfg.default_hooks.get("checkpoint") or {}).pop("save_best", None)
    cfg.test_evaluator = metrics + [dump_config(metrics, out) for out in args.out if out.lower().endswith(".pt")]
    return bool(fitted)


def main() -> None:
    """Read the config, load the checkpoint, test."""
    args = parse_args()
    quiet_warnings()
    # custom_imports name modules of projects/, which are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    cfg = load_config(args.config, args.cfg_options, ARGUMENTS)
    if cfg.get("test_dataloader") is None:
        raise ConfigError(f"the config {args.config} has no test_dataloader: there is nothing to test on")
    read_checkpoint(args.checkpoint)  # a wrong path should not cost the building of a data set
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
