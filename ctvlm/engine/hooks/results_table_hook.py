"""The end of a run: what came out, and where it lies."""

from __future__ import annotations

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.table import Table

from ctvlm.engine.checkpoint import write_json
from ctvlm.engine.console import stdout_console
from ctvlm.registry import HOOKS


@HOOKS.register_module()
class ResultsTableHook(Hook):
    """Print the last metrics and the run's files, and keep the metrics in ``results.json`` of the work folder.

    A metric's ``<name>_chance`` or ``<prefix>/chance`` is shown as its chance level, ``<prefix>/num_...`` as
    its number of cases, ``<name>_low`` and ``<name>_high`` as its interval. A run resumed after its last epoch
    validates once, so that it too ends in numbers.
    """

    # After the progress bar has left the terminal, and the last checkpoint is written.
    priority = "LOWEST"

    def __init__(self):
        self.metrics: dict | None = None

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self.metrics = metrics

    def after_train(self, runner: Runner) -> None:
        if self.metrics is None and runner.val_loop is not None:
            runner.val_loop.run()
        if runner.rank != 0:
            return
        console = stdout_console()
        if self.metrics is not None:
            results = {"epoch": runner.epoch, "iter": runner.iter, "metrics": self.metrics}
            write_json(Path(runner.work_dir) / "results.json", results)
            console.print(metrics_table(self.metrics, f"Validation after epoch {runner.epoch}"))
        console.print(_files_table(runner, with_results=self.metrics is not None))

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if runner.rank == 0:
            stdout_console().print(metrics_table(metrics or {}, "Test"))


def metrics_table(metrics: dict, title: str) -> Table:
    """Metric, value, interval where there is any, chance level and number of cases, one row a metric."""
    intervals = {key: (metrics[f"{key}_low"], metrics[f"{key}_high"]) for key in metrics if f"{key}_low" in metrics}
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for name in ("value", *(["interval"] if intervals else []), "chance", "n"):
        table.add_column(name, justify="right")
    for key, value in metrics.items():
        prefix, _, name = key.rpartition("/")
        bound = name.endswith(("_low", "_high")) and key.rpartition("_")[0] in intervals
        if bound or name.endswith("chance") or name.startswith("num_"):
            continue
        chance = metrics.get(f"{key}_chance", metrics.get(f"{prefix}/chance"))
        counts = [count for other, count in metrics.items() if other.startswith(f"{prefix}/num_")]
        interval = [" to ".join(map(_cell, intervals[key])) if key in intervals else ""] if intervals else []
        table.add_row(key, _cell(value), *interval, _cell(chance), _cell(counts[0] if len(counts) == 1 else None))
    return table


def _files_table(runner: Runner, with_results: bool) -> Table:
    work_dir = Path(runner.work_dir)
    info = runner.message_hub.runtime_info
    files = {
        "work folder": work_dir,
        "last checkpoint": info.get("last_ckpt"),
        **{key.replace("best_ckpt", "best checkpoint"): info[key] for key in info if key.startswith("best_ckpt")},
        "results": work_dir / "results.json" if with_results else None,
        "log": runner.logger.log_file,
        "config": work_dir / Path(runner.cfg.filename).name if runner.cfg.filename else None,
    }
    table = Table.grid(padding=(0, 2))
    for name, path in files.items():
        if path is not None and Path(path).exists():
            table.add_row(name, str(path))
    return table


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
