"""The end of a run: what came out, and where it lies."""

from __future__ import annotations

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.table import Table

from ctvlm.engine.cli.console import stdout_console
from ctvlm.engine.cli.metrics_table import ORIGIN, metrics_table, table_title, write_metrics
from ctvlm.registry import HOOKS
from ctvlm.utils.training_data import PHANTOMS_ONLY, any_real, dataset_records, only_phantoms


@HOOKS.register_module()
class ResultsTableHook(Hook):
    """Print the last metrics and the run's files; keep the metrics in the work folder.

    After training ``results.json`` (of the last validation), after a test ``test_results.json`` and ``.csv``.
    ``metric_rows`` says how intervals, chance levels and numbers of cases are told from metrics. A run resumed after
    its last epoch validates once, so that it too ends in numbers. A line below the table says if the data are real and
    the weights were trained on phantoms only.
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
            results = Path(runner.work_dir) / "results.json"
            origin = _data_origin(runner.val_dataloader)
            write_metrics(results, self.metrics, epoch=runner.epoch, iter=runner.iter, **origin)
            console.print(metrics_table(self.metrics, table_title(f"Validation after epoch {runner.epoch}", origin)))
            _print(_remark(runner, runner.val_dataloader))
        console.print(_files_table(runner, with_results=self.metrics is not None))

    def before_test_epoch(self, runner: Runner) -> None:
        """Dumps of predictions keep the remark, see DumpPredictions."""
        for metric in runner.test_loop.evaluator.metrics:
            if hasattr(metric, "set_remark"):
                metric.set_remark(_remark(runner, runner.test_dataloader))

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if runner.rank == 0:
            origin = _data_origin(runner.test_dataloader)
            stdout_console().print(metrics_table(metrics or {}, table_title("Test", origin)))
            if remark := _remark(runner, runner.test_dataloader):
                origin["remark"] = remark
                _print(remark)
            # Not results.json: training has left its own there, of the validation.
            for suffix in (".json", ".csv"):
                path = Path(runner.work_dir) / f"test_results{suffix}"
                write_metrics(path, metrics or {}, checkpoint=runner.cfg.get("load_from"), **origin)


def _remark(runner: Runner, dataloader: object) -> str:
    """What to say if the data are real and the weights saw only phantoms; "" otherwise."""
    trained_on = getattr(runner, "training_data", [])  # CTVLMRunner's
    return PHANTOMS_ONLY if only_phantoms(trained_on) and any_real(dataset_records(dataloader.dataset)) else ""


def _print(remark: str) -> None:
    if remark:
        stdout_console().print(f"warning: {remark}", soft_wrap=True)


def _data_origin(dataloader: object) -> dict[str, str]:
    """The evaluation set and the source of the labels, where the data set names them."""
    metainfo = getattr(getattr(dataloader, "dataset", None), "metainfo", None) or {}
    return {key: metainfo[key] for key in ORIGIN if metainfo.get(key)}


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
