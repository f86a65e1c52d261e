"""End a training with a checkpoint when a signal asks for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ctvlm.engine.hooks.plain_checkpoint_hook import PlainCheckpointHook
from ctvlm.registry import HOOKS
from ctvlm.utils.stop_signals import (
    STOP_SIGNALS,
    Interrupted,
    defer_stop_signals,
    handle_stop_signals,
    stop_requested,
)


@HOOKS.register_module()
class StopSignalHook(Hook):
    """After SIGINT (Ctrl-C), SIGTERM, SIGHUP or SIGUSR1: finish the step, save a checkpoint, raise ``Interrupted``.

    A validation ends after its current batch, and is repeated by the resumed run. A second signal ends the process
    at once. A signal to one rank stops all ranks after the same step: they compare one number per step and per
    batch of a validation. CTVLMRunner adds this hook as ``default_hooks.stop_signal``.

    Raises:
        Interrupted: during the training.
    """

    # After the checkpoint of the step and the progress of the run.
    priority = "LOWEST"

    def __init__(self) -> None:
        self._handlers = ExitStack()
        self._training = False
        self._batches = 0  # of the validation, that each rank has

    def before_train(self, runner: Runner) -> None:
        self._training = True
        self._handlers.enter_context(handle_stop_signals())
        self._handlers.enter_context(defer_stop_signals())
        loops = [runner.train_loop, *([runner.val_loop] if runner.val_loop is not None else [])]
        for loader in (loop.dataloader for loop in loops):
            if loader.num_workers and not isinstance(loader.worker_init_fn, OutlastSignals):
                loader.worker_init_fn = OutlastSignals(loader.worker_init_fn)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        self._stop_if_requested(runner, steps=runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        if self._training:
            self._stop_if_requested(runner, steps=runner.iter)
            batches = torch.tensor(len(runner.val_loop.dataloader))
            all_reduce(batches, "min")
            self._batches = int(batches)

    def after_val_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        # Ranks can have different numbers of batches.
        if self._training and batch_idx < self._batches:
            self._stop_if_requested(runner, steps=runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self._training and runner.iter < runner.max_iters:
            self._stop_if_requested(runner, steps=runner.iter, validated=True)

    def on_exit(self, runner: Runner) -> None:
        """Restore the handlers of the signals."""
        self._training = False
        self._handlers.close()

    def _stop_if_requested(self, runner: Runner, steps: int, validated: bool = False) -> None:
        number = torch.tensor(stop_requested())
        all_reduce(number, "max")
        if not number:
            return
        hook = next((hook for hook in runner.hooks if isinstance(hook, PlainCheckpointHook)), None)
        path = hook.save_interrupted(runner, steps, validated) if hook else None
        barrier()  # a launcher ends all processes when the first one ends
        saved = f"continue with --resume from {path}" if path else "the config has no PlainCheckpointHook to save it"
        message = f"interrupted by {signal.Signals(int(number)).name} after step {steps}: {saved}"
        raise Interrupted(int(number), message, agreed=True)


class OutlastSignals:
    """A ``worker_init_fn`` of data workers: only their training ends them.

    Ctrl-C and SLURM send signals to all processes, but the training needs its data workers for the current step.

    Args:
        inner: ``worker_init_fn`` to call.
    """

    def __init__(self, inner: Callable[[int], None] | None = None) -> None:
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        for number in STOP_SIGNALS:
            if number != signal.SIGTERM:
                signal.signal(number, signal.SIG_IGN)
        if hasattr(signal, "sigwaitinfo"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_end_for_parent, args=(os.getppid(),), daemon=True).start()
        if self.inner is not None:
            self.inner(worker_id)


def _end_for_parent(parent: int) -> None:
    """End this process when its parent sends SIGTERM, as torch does for a data worker that does not answer."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
