"""Profile training steps by phase: python tools/analysis_tools/profile_training.py CONFIG

Data, encoder, text, losses, backward pass and optimizer: time, operators, copies and host synchronisations per step,
and the operators that take most time. ``--trace FILE.json`` writes a trace for chrome://tracing or ui.perfetto.dev.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ctvlm.engine import ConfigOptions, run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file or name")
    parser.add_argument("--steps", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--cases", type=int, default=16, help="number of different cases (default: %(default)s)")
    parser.add_argument("--device", help="default: cuda if available, else cpu")
    parser.add_argument("--trace", type=Path, metavar="FILE.json", help="write a Chrome trace")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the tables")
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions, help="override keys of the config")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args(argv)
    if min(args.steps, args.cases) < 1:
        parser.error("--steps and --cases must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Profile, print and write the tables."""
    args = parse_args(argv)
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler prints its start and end
    import torch
    from mmengine.logging import MMLogger

    from ctvlm.engine import load_config, quiet_warnings, write_json
    from ctvlm.engine.cli.console import stdout_console
    from ctvlm.experiments.benchmark.report import rows_table
    from ctvlm.experiments.benchmark.step_profile import profile_steps
    from ctvlm.experiments.benchmark.training_step import TrainingStep
    from ctvlm.utils import check_out_file

    for name in ("out", "trace"):
        if getattr(args, name):
            check_out_file(f"--{name}", getattr(args, name))
    quiet_warnings()
    MMLogger.get_current_instance().setLevel("WARNING")  # otherwise it prints a line per weight
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    step = TrainingStep(load_config(args.config, args.cfg_options), device, args.cases)
    result = profile_steps(step, args.steps, args.trace)
    console = stdout_console()
    title = f"{step.batch_size} cases, {device}, mean of {args.steps} steps"
    console.print(rows_table([dict(phase=name, **row) for name, row in result["phases"].items()], title))
    console.print(rows_table(result["operators"], "operators by own time on the host"))
    for path, content in ((args.trace, "trace"), (args.out, "results")):
        if path:
            console.print(f"{content} written to {path}")
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    sys.exit(run_tool(main))
