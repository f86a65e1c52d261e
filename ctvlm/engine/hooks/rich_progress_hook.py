"""Show the progress of a run on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ctvlm.engine.cli.console import stdout_console
from ctvlm.engine.model_wrapper import unwrap_model
from ctvlm.registry import HOOKS
from ctvlm.utils import describe_environment


@HOOKS.register_module()
class RichProgressHook(Hook):
    """Print step, epoch, loss terms, learning rate, times and ETA on rank 0.

    On a terminal this is a live progress bar, otherwise one line every ``interval`` steps.

    Args:
        interval: number of steps between two lines, and over which losses are averaged.
    """

    priority = "LOW"

    def __init__(self, interval: int = 10):
        if interval < 1:
            raise ValueError(f"RichProgressHook.interval is {interval}; expected at least 1")
        self.interval = interval
        self.console = stdout_console()
        self.training = False
        self.progress: Progress | None = None
        self.steps: TaskID | None = None
        self.evaluation: TaskID | None = None

    def before_train(self, runner: Runner) -> None:
        if runner.rank != 0:
            return
        model = unwrap_model(runner.model)
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        loader = runner.train_dataloader
        self.console.print(f"[bold]{runner.experiment_name}[/]: {describe_environment()}")
        self.console.print(
            f"{runner.model_name} with {parameters:.2f} M parameters, {len(loader.dataset)} training cases, "
            f"{runner.max_iters} steps{_ranks(runner)}, writing to {runner.work_dir}"
        )
        if runner.iter:
            self.console.print(f"resumed after epoch {runner.epoch}, step {runner.iter}")
        self.training = True
        self.steps = self._add_bar("train", runner.max_iters, completed=runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if runner.rank != 0:
            return
        step, last = runner.iter + 1, runner.iter + 1 == runner.max_iters
        if self.progress is not None and self.steps is not None:
            description = f"epoch {runner.epoch + 1}/{runner.max_epochs}"
            self.progress.update(
                self.steps, completed=step, description=description, info=self._state(runner, outputs or {})
            )
        elif step % self.interval == 0 or batch_idx == 0 and runner.epoch == 0 or last:
            self.console.print(
                f"epoch {runner.epoch + 1}/{runner.max_epochs}  step {step}/{runner.max_iters}  "
                + self._state(runner, outputs or {}),
                soft_wrap=True,
            )

    def after_train(self, runner: Runner) -> None:
        self.on_exit(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        self._begin_evaluation(runner, "validation", len(runner.val_dataloader))

    def before_test_epoch(self, runner: Runner) -> None:
        self._begin_evaluation(runner, "test", len(runner.test_dataloader))

    def after_val_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if self.progress is not None and self.evaluation is not None:
            self.progress.advance(self.evaluation)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self.progress is not None and self.evaluation is not None:
            self.progress.remove_task(self.evaluation)
        if self.training:
            values = "  ".join(f"{key} {_short(value)}" for key, value in _scalars(metrics or {}))
            self.console.print(f"epoch {runner.epoch}/{runner.max_epochs}  validation: {values}", soft_wrap=True)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.on_exit(runner)

    def on_exit(self, runner: Runner) -> None:
        """Stop the progress bar, also after an error."""
        if self.progress is not None:
            self.progress.stop()
        self.progress, self.training = None, False

    def _begin_evaluation(self, runner: Runner, name: str, total: int) -> None:
        if runner.rank == 0:
            self.evaluation = self._add_bar(name, total)

    def _add_bar(self, description: str, total: int, completed: int = 0) -> TaskID | None:
        if not self.console.is_terminal:
            return None
        if self.progress is None:
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[info]}"),
                console=self.console,
            )
            self.progress.start()
        return self.progress.add_task(description, total=total, completed=completed, info="")

    def _state(self, runner: Runner, outputs: dict) -> str:
        scalars = runner.message_hub.log_scalars

        def mean(key: str) -> float:
            return float(scalars[key].mean(self.interval)) if key in scalars else float("nan")

        terms = {key: mean(f"train/{key}") for key in outputs}
        text = f"loss {terms.pop('loss'):.3f}" if "loss" in terms else ""
        if terms:
            text += f" ({', '.join(f'{_term(key)} {value:.3f}' for key, value in terms.items())})"
        rate = scalars["train/lr"].current() if "train/lr" in scalars else float("nan")
        eta = timedelta(seconds=int(runner.message_hub.get_info("eta", 0)))
        return (
            f"{text}  lr {rate:.2e}  data {mean('train/data_time'):.2f} s  step {mean('train/time'):.2f} s  eta {eta}"
        )


def _ranks(runner: Runner) -> str:
    return f" on {runner.world_size} processes" if runner.world_size > 1 else ""


def _term(key: str) -> str:
    return key.removeprefix("loss_").removesuffix("_loss")


def _scalars(metrics: dict) -> Iterable[tuple[str, float]]:
    """Metrics to show in one line, without counts and chance levels."""
    for key, value in metrics.items():
        name = key.rpartition("/")[2]
        if isinstance(value, (int, float)) and not name.startswith("num_") and not name.endswith("chance"):
            yield key, value


def _short(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
