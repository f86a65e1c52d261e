"""Train a model from a config: python tools/train.py configs/vit3d_cot_contrastive.py"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ctvlm.engine import (
    ConfigOptions,
    CTVLMRunner,
    drop_validation,
    enable_amp,
    enable_lr_scaling,
    init_distributed,
    load_config,
    quiet_warnings,
    run_tool,
    set_resume,
    set_work_dir,
)


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a model from a config.")
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder for logs and checkpoints (default: work_dirs/<config name>)")
    parser.add_argument(
        "--resume", nargs="?", const="auto", help="resume from this checkpoint, or from the last one in the work folder"
    )
    parser.add_argument("--amp", action="store_true", help="use mixed precision")
    parser.add_argument("--no-validate", action="store_true", help="do not validate during training")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size")
    parser.add_argument("--seed", type=int, help="random seed (default: the config's)")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and the complete log")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)  # passed by old launchers
    return parser.parse_args()


def main() -> None:
    """Load the config, apply the command line, train."""
    args = parse_args()
    quiet_warnings()
    # custom_imports may name modules of projects/, which is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    cfg = load_config(args.config, args.cfg_options, {"launcher": "--launcher"})
    set_work_dir(cfg, args.work_dir)
    cfg.launcher = args.launcher
    if args.seed is not None:
        cfg.merge_from_dict({"randomness.seed": args.seed})
    if args.amp:
        enable_amp(cfg)
    if args.no_validate:
        drop_validation(cfg)
    if args.auto_scale_lr:
        enable_lr_scaling(cfg)
    if args.resume and set_resume(cfg, args.resume) is None and int(os.environ.get("RANK", 0)) == 0:
        print(f"no checkpoint to resume from in {cfg.work_dir}: training starts from the beginning")
    init_distributed(args.launcher)
    CTVLMRunner.from_cfg(cfg).train()


if __name__ == "__main__":
    sys.exit(run_tool(main))
