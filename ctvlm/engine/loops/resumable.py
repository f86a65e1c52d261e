"""What the resumable loops have in common."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size

from ctvlm.engine.checkpoint.files import CheckpointError
from ctvlm.engine.loading.device_copies import copies_of
from ctvlm.engine.loops.batches import Batches
from ctvlm.engine.loops.gradients import gather_gradients, restore_gradients
from ctvlm.engine.model_wrapper import unwrap_model


class ResumableLoop:
    """State of a training loop: position in the data, random states, accumulated gradients, pending validation.

    Attributes:
        batches: the training data.
        pending_validation: whether the model must be validated before the training goes on. A checkpoint is written
            before its validation, so a run that was killed in between validates when it is resumed.
    """

    runner: Any
    dataloader: Any
    _iter: int
    val_begin: int
    val_interval: int
    dynamic_milestones: list[int]
    dynamic_intervals: list[int]

    def init_state(self) -> None:
        """Start from the first batch."""
        self.batches = Batches(self.dataloader)
        self.pending_validation = False
        self._before_validation: dict[str, Any] | None = None
        self.passes = 0  # complete passes over the data, in a loop without epochs

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint; during a validation, the state before it. All ranks must call this."""
        if self.pending_validation and self._before_validation is not None:
            return self._before_validation
        ranks = all_gather_object(self.batches.state_dict())
        state = dict(pending_validation=self.pending_validation, passes=self.passes, ranks=ranks)
        if self._accumulates() > 1 and not self.runner.optim_wrapper.should_update():
            state["gradients"] = gather_gradients(unwrap_model(self.runner.model))
        return state

    def load_state_dict(self, state: Any) -> None:
        """Continue from a state; None: the checkpoint of an earlier version.

        Raises:
            CheckpointError: an entry has a wrong type.
        """
        if state is None:
            self.load_counts()
            self._load_gradients(None)
            return
        ranks = state.get("ranks") if isinstance(state, dict) else None
        if not isinstance(ranks, list) or not ranks or not all(isinstance(rank, dict) for rank in ranks):
            raise CheckpointError("the checkpoint's state of the training loop (run_state) is invalid")
        if any(rank.get("position") != ranks[0].get("position") for rank in ranks):  # they would wait for each other
            raise CheckpointError("the checkpoint's positions of its processes in the training data differ")
        passes = state.get("passes")
        if type(passes) is not int or not 0 <= passes <= self._iter:
            raise CheckpointError("the checkpoint's number of passes over the data (run_state.passes) is invalid")
        self.passes, self.pending_validation = passes, state.get("pending_validation") is True
        self.batches.load_state_dict(ranks[get_rank() % len(ranks)])
        if self.batches.position > self._iter:
            raise CheckpointError("the checkpoint's position in the training data is after its iteration")
        self._apply_changes(ranks)
        self._load_gradients(state.get("gradients"))

    def start_pass(self, epoch: int) -> Iterator[tuple[int, Any]]:
        """Number of the batch in its pass, and the batch."""
        return self.batches.start(self.runner.seed, epoch, copies_of(self.runner.model, self.dataloader.num_workers))

    def load_counts(self) -> None:
        """Continue from the number of iterations only."""

    def validation_due(self, done: int, last: int) -> bool:
        """Whether to validate after ``done`` of ``last`` epochs or iterations."""
        # As in mmengine, the interval can change during the training.
        self.val_interval = self.dynamic_intervals[bisect.bisect(self.dynamic_milestones, done + 1) - 1]
        at_interval = done % self.val_interval == 0 or done == last
        return self.runner.val_loop is not None and done >= self.val_begin and at_interval

    def validate(self) -> None:
        """Run the pending validation."""
        if self.pending_validation and self.runner.val_loop is not None:
            self._before_validation = self.state_dict()
            self.runner.val_loop.run()
            self._before_validation = None
        self.pending_validation = False

    def _accumulates(self) -> int:
        """Number of batches per optimizer step; a wrapper of several optimizers does not accumulate."""
        return getattr(self.runner.optim_wrapper, "_accumulative_counts", 1)

    def _load_gradients(self, ranks: Any) -> None:
        """Restore the gradients of a checkpoint that was written between two optimizer steps."""
        if self._iter % self._accumulates() == 0:
            return
        if not isinstance(ranks, list) or len(ranks) != get_world_size() or not isinstance(ranks[get_rank()], dict):
            self.runner.logger.warning(
                "The checkpoint was written between two optimizer steps, and has no accumulated gradients for this "
                "number of processes: the gradients of some batches are lost"
            )
            return
        restore_gradients(unwrap_model(self.runner.model), ranks[get_rank()])

    def _apply_changes(self, ranks: list[dict]) -> None:
        """Discard what does not fit another number of processes or batches, with a warning."""
        if len(ranks) != get_world_size():  # two processes would have the same random numbers
            self.batches.forget_random_state()
        if not self.batches.position:
            return
        before = (len(ranks), ranks[0].get("num_batches"))
        now = (get_world_size(), len(self.dataloader))
        names = ("processes", "batches per epoch")
        changes = [f"{old} {name}, now {new}" for name, old, new in zip(names, before, now) if old != new]
        if changes:
            self.runner.logger.warning(
                f"The checkpoint was written within an epoch with {'; '.join(changes)}: the rest of this epoch differs "
                "from that of an uninterrupted run"
            )
            self.batches.restart()
