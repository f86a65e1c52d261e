"""Train ablations and baselines with several seeds and hold them against the full model, in one table.

python tools/analysis_tools/ablate.py --jobs 2
python tools/analysis_tools/ablate.py configs/ablations/full.py configs/ablations/no_*.py --seeds 0 1 2 3 4 --epochs 8

Without names, configs/ablations/*.py and configs/baselines/*.py are run: one part left out or done otherwise at a time,
and encoders of other kinds. configs/ablations/choices/ has other choices of the same parts, to be run by name.

Each run's result lies in a file of its own under the work folder: a second call trains what is missing, and what has
changed in its config. (Code is not compared: take another work folder after changing it.) A run that fails is shown in
the table, and tried again by the next call.

Intervals are Student's t over seeds, 95%, for the mean of a metric and for its mean difference to the reference, paired
by seed. A seed decides initial weights and the order of cases; the cases themselves are the same in all runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from mmengine.config import Config
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ctvlm.engine import ConfigError, ConfigOptions, load_config, quiet_warnings, run_tool, write_json
from ctvlm.engine.cli.console import stdout_console
from ctvlm.experiments import seed_table
from ctvlm.registry import DATASETS

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "tools" / "train.py"
LOADERS = ("train_dataloader", "val_dataloader")


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train ablations with several seeds and compare them in one table.")
    parser.add_argument("configs", nargs="*", help="config files (default: configs/ablations and configs/baselines)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores (default: 1)")
    parser.add_argument("--epochs", type=int, help="length of each run (default: the config's)")
    parser.add_argument("--cases", type=int, help="training cases of PhantomCT (default: the config's)")
    parser.add_argument("--val-cases", type=int, help="held-out cases of PhantomCT (default: the config's)")
    parser.add_argument("--reference", default="full", help="name of the config that others are held against")
    parser.add_argument("--work-dir", default="work_dirs/ablations", type=Path)
    parser.add_argument("--table-only", action="store_true", help="train nothing, show what there is")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override each config: a.b=1"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs is {args.jobs}; expected at least 1")
    return args


@dataclass(frozen=True)
class Run:
    """One config with one seed."""

    name: str
    seed: int
    config: Path
    digest: str
    work_dir: Path

    @property
    def folder(self) -> Path:
        return self.work_dir / "runs" / f"{self.name}_seed{self.seed}"

    @property
    def result(self) -> Path:
        return self.work_dir / "results" / f"{self.name}_seed{self.seed}.json"

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".txt")


def prepare(path: Path, args: argparse.Namespace) -> tuple[Config, str]:
    """The config of the runs of ``path``, and a digest of what decides their result.

    Raises:
        ConfigError: it cannot be read, or has no place for an option.
    """
    cfg = load_config(path, args.cfg_options)
    epochs = cfg.train_cfg.get("max_epochs")
    if epochs is None:
        raise ConfigError(f"the config {path} counts no epochs (train_cfg.max_epochs): ablate needs them")
    if args.epochs is not None:
        for scheduler in cfg.get("param_scheduler") or []:
            for key in ("end", "T_max"):
                if scheduler.get("by_epoch", True) and scheduler.get(key) == epochs:
                    scheduler[key] = args.epochs
        cfg.train_cfg.max_epochs = epochs = args.epochs
    cfg.train_cfg.val_interval = epochs
    cfg.default_hooks.checkpoint = None
    data = [cfg[key].dataset for key in LOADERS if cfg[key].dataset.type == "PhantomCT"]
    for dataset, count in zip(data, (args.cases, args.val_cases)):
        dataset.num_cases = count or dataset.num_cases
    digest = hashlib.sha256(cfg.pretty_text.encode()).hexdigest()[:16]
    for dataset in data:
        # Absolute, so that it does not depend on where a run starts; and after the digest, so that a work folder
        # can be moved.
        dataset.setdefault("cache_dir", str((args.work_dir / "phantoms").absolute()))
    return cfg, digest


def plan(args: argparse.Namespace) -> tuple[list[Run], list[Config]]:
    """All runs, configs in the order given, the reference first; and their configs."""
    paths = [Path(p) for p in args.configs]
    paths = paths or sorted([*ROOT.glob("configs/ablations/*.py"), *ROOT.glob("configs/baselines/*.py")])
    paths.sort(key=lambda path: path.stem != args.reference)
    names = [path.stem for path in paths]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"several configs are called {twice}; results are told apart by these names: rename one")
    (args.work_dir / "configs").mkdir(parents=True, exist_ok=True)
    runs, configs = [], []
    for name, path in zip(names, paths):
        cfg, digest = prepare(path, args)
        merged = args.work_dir / "configs" / f"{name}.py"
        cfg.dump(str(merged))
        configs.append(cfg)
        runs.append([Run(name, seed, merged, digest, args.work_dir) for seed in args.seeds])
    # All configs with the first seed come first: a table of everything is there early.
    return [row[i] for i, row in product(range(len(args.seeds)), runs)], configs


def draw_phantoms(configs: Sequence[Config]) -> None:
    """Draw once what all runs read, so that they do not draw the same side by side."""
    drawn = []
    for cfg, key in product(configs, LOADERS):
        dataset = cfg[key].dataset.to_dict()
        what = {name: value for name, value in dataset.items() if name not in ("type", "pipeline")}
        if dataset["type"] == "PhantomCT" and what not in drawn:
            drawn.append(what)
            DATASETS.build(dict(type="PhantomCT", **what)).results(0)


def start(run: Run, threads: int) -> subprocess.Popen:
    """Begin to train; what it prints goes to the run's log."""
    shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(parents=True)
    command = [sys.executable, TRAIN, run.config, "--work-dir", run.folder, "--seed", run.seed]
    with open(run.log, "w", encoding="utf-8") as log:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # so that its data workers end with it
        )


def stop(process: subprocess.Popen) -> None:
    """End a run and whatever it started."""
    for ask in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, ask)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def work(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, str | None]]:
    """Train ``jobs`` runs at a time; each run as it ends, with what went wrong. Leaving early ends what runs."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting, active = list(runs), {}
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                run = waiting.pop(0)
                active[run] = (start(run, threads), time.monotonic())
            time.sleep(0.1)
            for run, (process, since) in list(active.items()):
                if process.poll() is not None:
                    del active[run]
                    yield run, finish(run, process.returncode, time.monotonic() - since)
    finally:
        for process, _ in active.values():
            stop(process)


def finish(run: Run, code: int, seconds: float) -> str | None:
    """Keep a run's result, or say why there is none."""
    if code == 0 and (run.folder / "results.json").is_file():
        metrics = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))["metrics"]
        metrics |= last_losses(run.folder)
        content = dict(config=run.name, seed=run.seed, digest=run.digest, seconds=seconds, metrics=metrics)
        write_json(run.result, content)
        return None
    lines = [line.strip() for line in run.log.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if re.match(r"(error|[\w.]*(Error|Exception)):", line)]
    said = (errors or [line for line in lines if line] or ["it printed nothing"])[-1]
    return f"exit code {code}: {said[:200]} (log: {run.log})"


def last_losses(folder: Path, last: int = 5) -> dict[str, float]:
    """Each loss in training, mean of the last logged values, as ``train/<name>``."""
    values: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*/vis_data/scalars.json")):
        for line in filter(None, path.read_text(encoding="utf-8").split("\n")):
            for name, value in json.loads(line).items():
                if name.startswith("loss"):
                    values.setdefault(f"train/{name}", []).append(value)
    return {name: sum(found[-last:]) / len(found[-last:]) for name, found in values.items()}


def result_of(run: Run) -> dict | None:
    """The kept result of a run, if it is of the config as it is now."""
    try:
        result = json.loads(run.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if result.get("digest") == run.digest else None


def interrupt(*_: object) -> None:
    """Let SIGTERM end the tool as Ctrl-C does, with its runs."""
    raise KeyboardInterrupt


def main() -> int:
    """Plan, train what is missing, print and write the table; 1 where a run failed."""
    args = parse_args()
    quiet_warnings()
    sys.path.insert(0, str(ROOT))  # custom_imports name modules of projects/, which are not installed
    signal.signal(signal.SIGTERM, interrupt)
    runs, configs = plan(args)
    failed: dict[str, str] = {}
    missing = [] if args.table_only else [run for run in runs if result_of(run) is None]
    if missing:
        draw_phantoms(configs)
    console = stdout_console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, closing(work(missing, args.jobs)) as ended:
        task = progress.add_task("Runs", total=len(runs), completed=len(runs) - len(missing))
        for run, trouble in ended:
            progress.advance(task)
            console.print(f"{run.name}, seed {run.seed}: {trouble or 'done'}", markup=False)
            if trouble:
                failed.setdefault(run.name, f"seed {run.seed}: {trouble}")
    results = [result for result in map(result_of, runs) if result is not None]
    summary = seed_table.summarise(results, [run.name for run in runs], args.reference, failed)
    console.print(seed_table.rich_table(summary))
    for note in seed_table.notes(summary):
        console.print(note, markup=False)
    write_json(args.work_dir / "table.json", summary)
    for name, text in (("table.csv", seed_table.csv_text(summary)), ("table.md", seed_table.markdown(summary))):
        (args.work_dir / name).write_text(text, encoding="utf-8")
    print("the table as JSON, CSV and Markdown: " + str(args.work_dir / "table.*"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
