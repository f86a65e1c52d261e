"""Test a checkpoint: python tools/test.py configs/vit3d_cot_contrastive.py work_dirs/.../epoch_10.pth"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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
    write_json,
)


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Test a checkpoint on the test data of a config.")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--work-dir", help="folder for the log (default: work_dirs/<config name>)")
    parser.add_argument("--out", help="write the metrics to this .json file")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and the whole log")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)  # old launchers pass it
    args = parser.parse_args()
    if args.out and not args.out.endswith(".json"):
        parser.error(f"--out takes a .json file, found '{args.out}'")
    return args


def main() -> None:
    """Read the config, load the checkpoint, test."""
    args = parse_args()
    quiet_warnings()
    # custom_imports name modules of projects/, which are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    cfg = load_config(args.config, args.cfg_options)
    if cfg.get("test_dataloader") is None:
        raise ConfigError(f"the config {args.config} has no test_dataloader: there is nothing to test on")
    read_checkpoint(args.checkpoint)  # a wrong path should not cost the building of a data set
    set_work_dir(cfg, args.work_dir)
    cfg.launcher, cfg.load_from, cfg.resume, cfg.load_strict = args.launcher, args.checkpoint, False, True
    init_distributed(args.launcher)
    runner = CTVLMRunner.from_cfg(cfg)
    metrics = runner.test()
    if args.out and runner.rank == 0:
        write_json(args.out, {"config": args.config, "checkpoint": args.checkpoint, "metrics": metrics})
        print(f"metrics written to {args.out}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
