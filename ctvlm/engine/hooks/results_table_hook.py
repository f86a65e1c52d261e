"""Print and write the results at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console

from ctvlm.engine.cli.console import stdout_console
from ctvlm.engine.cli.generated_examples import example_texts, examples_table
from ctvlm.engine.cli.metrics_table import ORIGIN, table_title, write_metrics
from ctvlm.engine.cli.results_tables import print_results
from ctvlm.registry import HOOKS
from ctvlm.utils.training_data import PHANTOMS_ONLY, any_real, dataset_records, only_phantoms

# Number of generated texts that are printed.
EXAMPLES = 3


@HOOKS.register_module()
class ResultsTableHook(Hook):
    """Print the last metrics, examples of generated texts and the paths of the run's files, and write the metrics.

    After training it writes ``results.json`` (metrics of the last validation), after a test ``test_results.json`` and
    ``test_results.csv``. ``metric_rows`` describes the table. A run that is resumed after its last epoch validates
    once. A line below the table warns if the data are real and the weights were trained on phantoms only.
    """

    # After the progress bar has been closed and the last checkpoint has been written.
    priority = "LOWEST"

    def __init__(self) -> None:
        self.metrics: dict | None = None
        self.examples: list[tuple[str, str, str]] = []

    def before_val_epoch(self, runner: Runner) -> None:
        self.examples = []

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        missing = EXAMPLES - len(self.examples)
        self.examples += [texts for sample in (outputs or [])[:missing] if (texts := _texts(sample))]

    after_test_iter = after_val_iter

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
            origin = _metainfo_origin(runner.val_dataloader)
            print_results(console, self.metrics, table_title(f"Validation after epoch {runner.epoch}", origin))
            self._print_examples(console)
            _print_warning(_remark(runner, runner.val_dataloader))
            # After they are printed: the disk may be full.
            write_metrics(results, self.metrics, epoch=runner.epoch, iter=runner.iter, **origin)
        for name, path in _files(runner, with_results=self.metrics is not None).items():
            console.print(f"{name:<17}{path}", soft_wrap=True, markup=False)

    def before_test_epoch(self, runner: Runner) -> None:
        """Pass the remark to metrics that store it, such as DumpPredictions."""
        self.examples = []
        for metric in runner.test_loop.evaluator.metrics:
            if hasattr(metric, "set_remark"):
                metric.set_remark(_remark(runner, runner.test_dataloader))

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if runner.rank == 0:
            origin = _metainfo_origin(runner.test_dataloader)
            console = stdout_console()
            print_results(console, metrics or {}, table_title("Test", origin))
            self._print_examples(console)
            if remark := _remark(runner, runner.test_dataloader):
                origin["remark"] = remark
                _print_warning(remark)
            # results.json contains the metrics of the last validation during training.
            for suffix in (".json", ".csv"):
                path = Path(runner.work_dir) / f"test_results{suffix}"
                write_metrics(path, metrics or {}, checkpoint=runner.cfg.get("load_from"), **origin)
            for metric in runner.test_loop.evaluator.metrics:
                if failure := getattr(metric, "failure", None):  # of DumpPredictions
                    raise failure

    def _print_examples(self, console: Console) -> None:
        if self.examples:
            console.print(examples_table(self.examples))


def _texts(sample: Any) -> tuple[str, str, str] | None:
    """Texts of a data sample of any model."""
    return example_texts(sample) if hasattr(sample, "get") else None


def _remark(runner: Runner, dataloader: Any) -> str:
    """Warning if the data are real and the weights were trained on phantoms only; otherwise an empty string."""
    trained_on = getattr(runner, "training_data", [])  # a property of CTVLMRunner
    return PHANTOMS_ONLY if only_phantoms(trained_on) and any_real(dataset_records(dataloader.dataset)) else ""


def _print_warning(remark: str) -> None:
    if remark:
        stdout_console().print(f"warning: {remark}", soft_wrap=True)


def _metainfo_origin(dataloader: Any) -> dict[str, str]:
    """The evaluation set and the source of the labels, if the metainfo of the data set contains them."""
    metainfo = getattr(getattr(dataloader, "dataset", None), "metainfo", None) or {}
    return {key: metainfo[key] for key in ORIGIN if metainfo.get(key)}


def _files(runner: Runner, with_results: bool) -> dict[str, Path]:
    """The existing files of a run."""
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
    return {name: Path(path) for name, path in files.items() if path is not None and Path(path).exists()}
