"""Search hyperparameters.

python tools/tune.py configs/tune/phantom.py --trials 20 --workers 2

The ``tune`` dictionary of the config defines the search space and the metric (see
ctvlm/experiments/search/search_space.py). Each trial is one run of tools/train.py in its own folder. The work folder
contains the study as study.db (SQLite): the same command resumes an interrupted search, and several processes can run
it at once. At the end, the tool prints a table, writes plots, and prints the command that trains the best trial again.
Needs Optuna: pip install "ctvlm[tune]".
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ctvlm.engine import ConfigError, ConfigOptions, quiet_warnings, run_tool, user_message
from ctvlm.engine.cli.console import stdout_console
from ctvlm.utils import CTVLMError, check_out_folder

if TYPE_CHECKING:
    from ctvlm.experiments.search import Search


ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Search hyperparameters of a config.")
    parser.add_argument("config", help="config file with a 'tune' dictionary")
    parser.add_argument("--trials", type=int, default=20, help="finished trials, including those of earlier calls")
    parser.add_argument("--workers", type=int, default=1, help="number of parallel trials, distributed over the GPUs")
    parser.add_argument("--work-dir", help="folder of the study (default: work_dirs/tune_<config name>)")
    parser.add_argument(
        "--cfg-options", nargs="+", metavar="KEY=VALUE", default=[], help="override the config in every trial: a.b=1"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args()
    if args.trials < 0 or args.workers < 1:
        parser.error("--trials must not be negative, --workers at least 1")
    # Parsed here to check them; the trials receive the original text.
    ConfigOptions(["--cfg-options"], "parsed")(parser, args, args.cfg_options)
    return args


def check_models(args: argparse.Namespace, search: Search) -> None:
    """Build the model once with each choice and each bound of a range, so that errors appear before the search."""
    from ctvlm.engine import load_config
    from ctvlm.registry import MODELS

    for parameter in search.space:
        for text in parameter.texts if parameter.key.startswith("model.") else ():
            pair = argparse.Namespace()
            ConfigOptions(["--cfg-options"], "parsed")(argparse.ArgumentParser(), pair, [f"{parameter.key}={text}"])
            try:
                MODELS.build(load_config(args.config, {**args.parsed, **pair.parsed}).model)
            except Exception as error:
                reason = user_message(error)
                if reason is None:
                    raise
                raise ConfigError(
                    f"tune.space: the model cannot be built with {parameter.key}={text}: {reason}"
                ) from error


def train_command(args: argparse.Namespace, options: list[str], folder: Path | str | None) -> list[str]:
    """Command that trains one trial."""
    work_dir = [] if folder is None else ["--work-dir", str(folder)]
    script = str(ROOT / "tools" / "train.py")
    return [sys.executable, script, args.config, *work_dir, "--cfg-options", *args.cfg_options, *options]


def main() -> None:
    """Check the search space, run the search, print the results."""
    args = parse_args()
    from ctvlm.engine import load_config
    from ctvlm.experiments.search import read_search

    quiet_warnings()
    sys.path.insert(0, str(ROOT))  # custom_imports may name modules of projects/, which is not installed
    try:
        from ctvlm.experiments.search.report import best_trials, trials_table, write_plots
        from ctvlm.experiments.search.trials import Workers, open_study
    except ModuleNotFoundError as error:
        raise CTVLMError(f'a search needs Optuna (no module {error.name}): pip install "ctvlm[tune]"') from None
    cfg = load_config(args.config, args.parsed)
    search = read_search(cfg)
    check_models(args, search)
    work_dir = Path(args.work_dir or cfg.get("work_dir") or f"work_dirs/tune_{Path(args.config).stem}")
    check_out_folder("--work-dir" if args.work_dir else "work_dir", work_dir)
    study = open_study(cfg, search, work_dir)
    console = stdout_console()
    try:
        Workers(study, search, work_dir, lambda *trial: train_command(args, *trial), args.trials, args.workers).run()
    finally:
        console.print(trials_table(study, search))
        for path in write_plots(study, search, work_dir):
            console.print(f"plot: {path}", soft_wrap=True)
    if best := best_trials(study):
        command = train_command(args, best[0].user_attrs["options"], None)
        command[:2] = ["python", "tools/train.py"]
        console.print(f"train the best again:\n{shlex.join(command)}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(run_tool(main))
