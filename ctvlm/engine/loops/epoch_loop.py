"""mmengine's loop over epochs, which can be resumed within an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from ctvlm.engine.loops.resumable import ResumableLoop


class ResumableEpochLoop(ResumableLoop, EpochBasedTrainLoop):
    """EpochBasedTrainLoop that continues after the last batch of a checkpoint, and repeats an interrupted validation.

    The arguments are those of EpochBasedTrainLoop.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_state()

    def run(self) -> nn.Module:
        """Train; returns the model."""
        self.runner.call_hook("before_train")
        if not self.batches.position:  # otherwise when the rest of the epoch begins
            self.batches.restore_random_state()
        self.validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self.validate()
        self.runner.call_hook("after_train")
        return self.runner.model

    def load_counts(self) -> None:
        """Skip the batches of this epoch that earlier iterations used."""
        done = self._iter - self._epoch * len(self.dataloader)
        if 0 < done <= len(self.dataloader):
            self.batches.position = done

    def run_epoch(self) -> None:
        """Train one epoch, or the rest of the interrupted one."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        with fewer_threads(self._drawing_processes()):
            for index, batch in self.start_pass(self._epoch):
                self.run_iter(index, batch)
        # Hooks save the state of the next epoch.
        self.batches.restart()
        self.pending_validation = self.validation_due(self._epoch + 1, self._max_epochs)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _drawing_processes(self) -> int:
        """Processes that draw the cases of this epoch. Later epochs of a resumed run train as in the first run."""
        reads_here = self.dataloader.num_workers == 0
        return getattr(self.dataloader.dataset, "drawing_processes", 0) if reads_here and self._epoch == 0 else 0


@contextmanager
def fewer_threads(others: int) -> Iterator[None]:
    """Compute with fewer threads of torch while ``others`` processes need processor cores, with one at least.

    Threads wait actively for each other: one that has to share its core stops all.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - others))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
