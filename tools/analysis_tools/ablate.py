"""Train ablations and baselines with several seeds and compare them with the full model in one table.

python tools/analysis_tools/ablate.py --jobs 2
python tools/analysis_tools/ablate.py configs/ablations/full.py configs/ablations/no_*.py --seeds 0 1 2 3 4 --epochs 8

Without arguments, it runs configs/ablations/*.py and configs/baselines/*.py: each removes or changes one component, or
uses another kind of encoder. To run other choices of the same components, name configs of configs/ablations/choices/.

The result of each run is stored in the work folder. A second call trains only the runs that are missing, that failed,
or whose config has changed. Changes of the code are not detected: use another work folder after changing it.

Intervals are 95% Student's t intervals over seeds, for the mean of a metric and for its mean difference to the
reference, paired by seed. The seed determines the initial weights and the order of cases; all runs use the same cases.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ctvlm.engine import ConfigOptions, quiet_warnings, run_tool
from ctvlm.engine.cli.console import stdout_console

if TYPE_CHECKING:
    from ctvlm.experiments.seed_runs import SeedRun


ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "tools" / "train.py"


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train ablations with several seeds and compare them in one table.")
    parser.add_argument("configs", nargs="*", help="config files (default: configs/ablations and configs/baselines)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel runs, which share the CPU cores")
    parser.add_argument("--epochs", type=int, help="length of each run (default: the config's)")
    parser.add_argument("--cases", type=int, help="training cases of PhantomCT (default: the config's)")
    parser.add_argument("--val-cases", type=int, help="validation cases of PhantomCT (default: the config's)")
    parser.add_argument("--reference", default="full", help="name of the config that the others are compared with")
    parser.add_argument("--work-dir", default="work_dirs/ablations", type=Path)
    parser.add_argument("--table-only", action="store_true", help="do not train; show the existing results")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override each config: a.b=1"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs is {args.jobs}; expected at least 1")
    return args


def train_command(run: SeedRun) -> list[str]:
    """Command that trains one run."""
    command = [sys.executable, TRAIN, run.config, "--work-dir", run.folder, "--seed", run.seed]
    return [str(part) for part in command]


def main() -> int:
    """Plan the runs, train the missing ones, print and write the table. Returns 1 if a run failed."""
    args = parse_args()
    from ctvlm.experiments import seed_table
    from ctvlm.experiments.run_scheduler import train_missing
    from ctvlm.experiments.seed_runs import RunSettings, generate_phantoms, plan_runs
    from ctvlm.utils import check_out_folder

    quiet_warnings()
    check_out_folder("--work-dir", args.work_dir)
    sys.path.insert(0, str(ROOT))  # custom_imports may name modules of projects/, which is not installed
    paths = [Path(p) for p in args.configs]
    paths = paths or sorted([*ROOT.glob("configs/ablations/*.py"), *ROOT.glob("configs/baselines/*.py")])
    settings = RunSettings(args.cfg_options, args.epochs, args.cases, args.val_cases)
    runs, configs = plan_runs(paths, args.seeds, args.work_dir, args.reference, settings)
    console = stdout_console()
    errors: dict[str, str] = {}
    if not args.table_only:
        if any(run.load_result() is None for run in runs):
            generate_phantoms(configs)
        errors = train_missing(runs, train_command, args.jobs, console)
    results = [result for run in runs if (result := run.load_result()) is not None]
    summary = seed_table.summarise(results, [run.name for run in runs], args.reference, errors)
    console.print(seed_table.rich_table(summary))
    for note in seed_table.notes(summary):
        console.print(note, markup=False)
    seed_table.write_tables(summary, args.work_dir)
    print("the table as JSON, CSV and Markdown: " + str(args.work_dir / "table.*"))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
