"""mmengine's loop over iterations, which can be resumed without loading the data again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.runner import IterBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch import nn

from ctvlm.engine.loops.resumable import ResumableLoop


class ResumableIterLoop(ResumableLoop, IterBasedTrainLoop):
    """IterBasedTrainLoop that continues after the last batch of a checkpoint, and repeats an interrupted validation.

    mmengine's loop loads all earlier batches again, and its random numbers differ from those of an uninterrupted run.
    The arguments are those of IterBasedTrainLoop.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        # IterBasedTrainLoop.__init__ would start the data workers before their seeds are known.
        BaseLoop.__init__(self, runner, dataloader)
        self._max_iters, self._max_epochs = int(max_iters), 1
        self._epoch = self._iter = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        self.runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, "metainfo", None)
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, dynamic_intervals)
        self.init_state()
        self._iterator: Iterator[tuple[int, Any]] = iter(())

    def run(self) -> nn.Module:  # type: ignore[override]
        """Train; returns the model."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self._start_pass()
        self.validate()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(self._next_batch())
            self.validate()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_iter(self, data_batch: Any) -> None:
        """Train one batch."""
        # Hooks save it in checkpoints.
        self.pending_validation = self.validation_due(self._iter + 1, self._max_iters)
        super().run_iter(data_batch)

    def load_counts(self) -> None:
        """Skip the batches of the earlier iterations."""
        endless = isinstance(self.batches.sampler, InfiniteSampler)
        self.passes, self.batches.position = (0, self._iter) if endless else divmod(self._iter, len(self.dataloader))

    def _next_batch(self) -> Any:
        for _, batch in self._iterator:
            return batch
        self.passes += 1
        self.batches.restart()
        self._start_pass()
        return next(self._iterator)[1]

    def _start_pass(self) -> None:
        if self.passes:
            for sampler in (self.dataloader.sampler, self.batches.sampler):
                if hasattr(sampler, "set_epoch"):
                    sampler.set_epoch(self.passes)
        self._iterator = self.start_pass(self.passes)
