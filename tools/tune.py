"""Search hyperparameters.

python tools/tune.py configs/tune/phantom.py --trials 20 --workers 2

The config's ``tune`` says what is varied and which metric decides (form: ctvlm/experiments/search/search_space.py).
Each trial is one run of tools/train.py in a folder of its own. All of them are kept in study.db (SQLite) in the work
folder: the same command goes on where a search was killed, and may be started several times at once. Ends with a table,
plots, and the command that trains the best trial again. Needs Optuna: pip install "ctvlm[tune]".
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path

from ctvlm.engine import ConfigError, ConfigOptions, load_config, quiet_warnings, run_tool, user_message
from ctvlm.engine.cli.console import stdout_console
from ctvlm.experiments.search import Search, read_search
from ctvlm.registry import MODELS
from ctvlm.utils import CTVLMError

TOP = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Search hyperparameters of a config.")
    parser.add_argument("config", help="config file with a 'tune'")
    parser.add_argument("--trials", type=int, default=20, help="finished trials to reach, earlier ones included")
    parser.add_argument("--workers", type=int, default=1, help="trials run at once (on GPUs in turn)")
    parser.add_argument("--work-dir", help="folder of the study (default: work_dirs/tune_<config name>)")
    parser.add_argument(
        "--cfg-options", nargs="+", metavar="KEY=VALUE", default=[], help="override the config in every trial: a.b=1"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args()
    if args.trials < 0 or args.workers < 1:
        parser.error("--trials must not be negative, --workers at least 1")
    # Checked here, handed on to the trials as they stand.
    ConfigOptions(["--cfg-options"], "parsed")(parser, args, args.cfg_options)
    return args


def check_models(args: argparse.Namespace, search: Search) -> None:
    """Build the model once with each choice and each end of a range; a search should not find out trial by trial."""
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
                raise ConfigError(f"tune.space: no model can be built with {parameter.key}={text}: {reason}") from error


def train_command(args: argparse.Namespace, options: list[str], folder: Path | str | None) -> list[str]:
    """The command that trains one trial."""
    where = [] if folder is None else ["--work-dir", str(folder)]
    script = str(TOP / "tools" / "train.py")
    return [sys.executable, script, args.config, *where, "--cfg-options", *args.cfg_options, *options]


def main() -> None:
    """Check, search, report."""
    args = parse_args()
    quiet_warnings()
    # custom_imports name modules of projects/, which are not installed.
    sys.path.insert(0, str(TOP))
    try:
        from ctvlm.experiments.search.report import best_trials, draw, trials_table
        from ctvlm.experiments.search.trials import Workers, open_study
    except ModuleNotFoundError as error:
        raise CTVLMError(f'a search needs Optuna (found no {error.name}): pip install "ctvlm[tune]"') from None
    cfg = load_config(args.config, args.parsed)
    search = read_search(cfg)
    check_models(args, search)
    work_dir = Path(args.work_dir or cfg.get("work_dir") or f"work_dirs/tune_{Path(args.config).stem}")
    study = open_study(cfg, search, work_dir)
    console = stdout_console()
    # As Ctrl-C does: the training processes are ended first.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        Workers(study, search, work_dir, lambda *trial: train_command(args, *trial), args.trials, args.workers).run()
    finally:
        signal.signal(signal.SIGTERM, before)
        console.print(trials_table(study, search))
        for path in draw(study, search, work_dir):
            console.print(f"plot: {path}", soft_wrap=True)
    if best := best_trials(study):
        command = train_command(args, best[0].user_attrs["options"], None)
        command[:2] = ["python", "tools/train.py"]
        console.print(f"train the best again:\n{shlex.join(command)}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(run_tool(main))
