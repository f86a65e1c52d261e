"""Show the progress of a run on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.progress import Progress, TaskID

from ctvlm.engine.cli.console import stdout_console
from ctvlm.engine.cli.results_tables import is_finding
from ctvlm.engine.model_wrapper import unwrap_model
from ctvlm.registry import HOOKS
from ctvlm.utils import describe_environment
from ctvlm.utils.progress import format_eta, start_display, stop_display
from ctvlm.utils.terminal_text import shown


@HOOKS.register_module()
class RichProgressHook(Hook):
    """Print epoch, step, ETA, loss, times, learning rate and loss terms on rank 0.

    On a terminal this is a live progress bar, otherwise one line every ``interval`` steps. Times and ETA do not include
    the first step of the process, in which data are prepared and kernels are compiled.

    Args:
        interval: number of steps between two lines, and over which losses and times are averaged.
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
        self.timed_steps, self.timed_seconds = -1, 0.0  # without the first step

    def before_train(self, runner: Runner) -> None:
        if runner.rank != 0:
            return
        model = unwrap_model(runner.model)
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        loader = runner.train_dataloader
        self.console.print(f"[bold]{shown(runner.experiment_name)}[/]: {shown(describe_environment())}")
        self.console.print(
            f"{runner.model_name} with {parameters:.2f} M parameters, {len(loader.dataset)} training cases, "
            f"{runner.max_iters} steps{_ranks(runner)}, writing to {shown(runner.work_dir)}"
        )
        if runner.iter:
            self.console.print(f"resumed after epoch {runner.epoch}, step {runner.iter}")
        self.training = True
        # Rich's own estimate would include the validations.
        self.steps = self._add_bar("train", runner.max_iters, completed=runner.iter, eta=None)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if runner.rank != 0:
            return
        self.timed_steps += 1
        if self.timed_steps and (times := runner.message_hub.log_scalars.get("train/time")):
            self.timed_seconds += times.current()
        step, last = runner.iter + 1, runner.iter + 1 == runner.max_iters
        eta, details = self._eta(runner.max_iters - step), self._details(runner, outputs or {})
        if self.progress is not None and self.steps is not None:
            description = f"epoch {runner.epoch + 1}/{runner.max_epochs}"
            self.progress.update(self.steps, completed=step, description=description, eta=eta, details=details)
        elif step % self.interval == 0 or batch_idx == 0 and runner.epoch == 0 or last:
            start = f"epoch {runner.epoch + 1}/{runner.max_epochs}  step {step}/{runner.max_iters}"
            self.console.print("  ".join([start, f"eta {format_eta(eta)}", *details]), soft_wrap=True)

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
        else:  # ResultsTableHook validates after the training
            self.on_exit(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.on_exit(runner)

    def on_exit(self, runner: Runner) -> None:
        """Stop the progress bar, also after an error."""
        if self.progress is not None:
            stop_display(self.progress)
        self.progress, self.training = None, False

    def _begin_evaluation(self, runner: Runner, name: str, total: int) -> None:
        if runner.rank == 0:
            self.evaluation = self._add_bar(name, total)

    def _add_bar(self, description: str, total: int, **fields: Any) -> TaskID | None:
        if not self.console.is_terminal:
            return None
        if self.progress is None:
            self.progress = start_display(self.console)
        return self.progress.add_task(description, total=total, **fields)

    def _eta(self, steps: int) -> float | None:
        if not steps:
            return 0.0
        return self.timed_seconds / self.timed_steps * steps if self.timed_steps else None

    def _details(self, runner: Runner, outputs: dict) -> list[str]:
        """Texts about the last steps, the most important first."""
        scalars = runner.message_hub.log_scalars

        def mean(key: str, window: int = self.interval) -> float:
            return float(scalars[key].mean(window)) if key in scalars else float("nan")

        terms = {key: mean(f"train/{key}") for key in outputs}
        texts = [f"loss {terms.pop('loss'):.3f}"] if "loss" in terms else []
        window = max(1, min(self.interval, self.timed_steps))
        rate = scalars["train/lr"].current() if "train/lr" in scalars else float("nan")
        texts += [f"step {mean('train/time', window):.2f} s", f"data {mean('train/data_time', window):.2f} s"]
        return [*texts, f"lr {rate:.2e}", *(f"{_term(key)} {value:.3f}" for key, value in terms.items())]


def _ranks(runner: Runner) -> str:
    return f" on {runner.world_size} processes" if runner.world_size > 1 else ""


def _term(key: str) -> str:
    return key.removeprefix("loss_").removesuffix("_loss")


def _scalars(metrics: dict) -> Iterable[tuple[str, float]]:
    """Metrics to show in one line: without counts, chance levels, intervals and scores of findings."""
    for key, value in metrics.items():
        name = key.rpartition("/")[2]
        if is_finding(key) or name.startswith("num_") or name.endswith(("chance", "_low", "_high")):
            continue
        if isinstance(value, (int, float)):
            yield key, value


def _short(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
