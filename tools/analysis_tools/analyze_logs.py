"""Plot training curves of one or several runs, or compute their training time.

    python tools/analysis_tools/analyze_logs.py plot_curve work_dirs/a work_dirs/b --keys loss --out loss.png
    python tools/analysis_tools/analyze_logs.py cal_train_time work_dirs/a

A run is a work folder (its newest training log) or a scalars.json. Without --keys, the losses are plotted.
"""

from __future__ import annotations

import argparse
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from ctvlm.engine import run_tool
from ctvlm.utils import CTVLMError, atomic_write, check_out_file

if TYPE_CHECKING:
    from ctvlm.engine.run_log import RunLog


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    plot = tasks.add_parser("plot_curve", help="plot metrics of runs")
    time = tasks.add_parser("cal_train_time", help="print the time per iteration of runs")
    for task in (plot, time):
        task.add_argument("runs", nargs="+", help="work folders or scalars.json files")
        task.add_argument("--debug", action="store_true", help="show tracebacks")
    plot.add_argument("--keys", nargs="+", metavar="KEY", help="metrics, one panel each (default: all losses)")
    plot.add_argument("--legend", nargs="+", metavar="NAME", help="names of the runs (default: their folders)")
    plot.add_argument("--title", default="", help="title of the figure")
    plot.add_argument("--out", default="curves.png", help="picture (.png, .pdf or .svg; default: curves.png)")
    plot.add_argument("--dpi", type=int, default=150)
    args = parser.parse_args(argv)
    if args.task == "plot_curve":
        if args.legend and len(args.legend) != len(args.runs):
            parser.error(f"--legend: found {len(args.legend)} names for {len(args.runs)} runs; expected one per run")
        if Path(args.out).suffix.lower() not in (".png", ".pdf", ".svg"):
            parser.error(f"--out: found '{args.out}'; expected a .png, .pdf or .svg file")
    return args


def plot_curves(args: argparse.Namespace, logs: list[RunLog]) -> None:
    """Write one panel per key."""
    from ctvlm.visualization.curves import curves_page

    available = list(dict.fromkeys(key for log in logs for key in log.keys))
    keys = args.keys or [key for key in available if key.startswith("loss")]
    if not keys:
        raise CTVLMError(f"{logs[0].path}: found no loss; set --keys to some of {', '.join(available) or 'none'}")
    for key in keys:
        if key not in available:
            close = get_close_matches(key, available, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the logs have {', '.join(available)}"
            raise CTVLMError(f"--keys {key}: not in the logs: {hint}")
    names = args.legend or args.runs
    panels: dict[str, dict] = {key: {} for key in keys}
    xlabels: dict[str, str] = {}
    for key in keys:
        for name, log in zip(names, logs):
            x, y, label = log.curve(key)
            if x:
                panels[key][name], xlabels[key] = (x, y), label
    figure = curves_page(panels, xlabels, args.title)
    with atomic_write(args.out) as part:
        figure.savefig(part, dpi=args.dpi)
    print(f"written: {args.out}")


def print_times(log: RunLog) -> None:
    """Time per iteration: mean, slowest and fastest epoch."""
    from ctvlm.engine.run_log import train_times

    times = train_times(log)
    slow, fast = max(times, key=times.__getitem__), min(times, key=times.__getitem__)
    print(f"{log.path}")
    print(f"  mean {sum(times.values()) / len(times):.4f} s/iter over {len(times)} epochs")
    print(f"  slowest epoch {slow}: {times[slow]:.4f} s/iter, fastest epoch {fast}: {times[fast]:.4f} s/iter")


def main(argv: list[str] | None = None) -> int:
    """Plot or print; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.engine.run_log import read_run_log

    if args.task == "plot_curve":
        check_out_file("--out", args.out)
    logs = [read_run_log(run) for run in args.runs]
    if args.task == "plot_curve":
        plot_curves(args, logs)
    else:
        for log in logs:
            print_times(log)
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
