"""Iterate over a data loader from any batch on, with the random states that an uninterrupted run would have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader

from ctvlm.engine.checkpoint.files import CheckpointError
from ctvlm.engine.loading.device_copies import Copies, copied_ahead
from ctvlm.engine.loops.random_state import random_state, set_random_state
from ctvlm.engine.loops.seeded_loader import SeededLoader


class Batches:
    """The batches of a data loader: one pass, which can start after the batches of an interrupted pass.

    The batch sampler must have its own generator, as those of mmengine do. Skipped batches are not loaded.

    Attributes:
        position: number of batches of the pass that have been used.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader if isinstance(loader, SeededLoader) else SeededLoader(loader, 0)
        self.position = 0
        self._random_state: Any = None

    def state_dict(self) -> dict[str, Any]:
        """State after the last batch, with the random states of this process."""
        return dict(
            position=self.position,
            num_batches=len(self.loader),
            sampler_seed=getattr(self.sampler, "seed", None),
            random_state=random_state(),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the last batch of a state.

        Raises:
            CheckpointError: an entry has a wrong type.
        """
        numbers = [state.get(key) for key in ("position", "num_batches")]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise CheckpointError("the checkpoint's position in the training data is invalid")
        self.position, self._random_state = state["position"], state.get("random_state")
        sampler_seed = state.get("sampler_seed")
        # Without randomness.seed in the config, the sampler has drawn another seed.
        if type(sampler_seed) is int and 0 <= sampler_seed < 2**32 and hasattr(self.sampler, "seed"):
            self.sampler.seed = sampler_seed

    @property
    def sampler(self) -> Any:
        """The sampler of the cases."""
        return self.loader.case_sampler

    def forget_random_state(self) -> None:
        """Keep the present random state of this process."""
        self._random_state = None

    def restore_random_state(self) -> None:
        """Restore the random state of this process; does nothing if the run was not resumed."""
        if self._random_state is not None:
            set_random_state(self._random_state)
        self._random_state = None

    def restart(self) -> None:
        """Begin a new pass with the next iteration."""
        self.position = 0

    def start(self, seed: int, epoch: int, copies: Copies | None = None) -> Iterator[tuple[int, Any]]:
        """Number of the batch in its pass, and the batch. ``seed`` is that of the run.

        Args:
            copies: how batches are copied to the device ahead; None: they stay where they are.
        """
        self.loader.seed = seed
        iterator = self.loader.batches(epoch, self.position)
        # Creating the iterator has drawn a random number.
        self.restore_random_state()
        return self._numbered(iterator if copies is None else copied_ahead(iterator, copies))

    def _numbered(self, iterator: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        for batch in iterator:
            number, self.position = self.position, self.position + 1
            yield number, batch
