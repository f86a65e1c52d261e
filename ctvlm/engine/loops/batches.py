"""Iterate over a data loader from any batch on, with the random states that an uninterrupted run would have."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch.utils.data import BatchSampler, DataLoader, get_worker_info

from ctvlm.engine.checkpoint.files import CheckpointError
from ctvlm.engine.loops.random_state import random_state, set_random_state


class WorkerBatch(NamedTuple):
    """A batch of a data worker, and the worker's random state after it."""

    data: Any
    base_seed: int
    state: dict[str, Any]


class CollateWithState:
    """A ``collate_fn`` that adds the random state of a data worker to its batches."""

    def __init__(self, collate_fn: Any, base_seed: int | None = None) -> None:
        self.collate_fn, self.base_seed = collate_fn, base_seed

    def __call__(self, samples: Sequence[Any]) -> Any:
        data, worker = self.collate_fn(samples), get_worker_info()
        if worker is None:
            return data
        seed = worker.seed - worker.id if self.base_seed is None else self.base_seed
        return WorkerBatch(data, seed, random_state(devices=False))


class ResumeWorker:
    """A ``worker_init_fn`` that gives the workers the random states of those of the interrupted epoch.

    Args:
        inner: ``worker_init_fn`` of the data loader.
        first: number of the first batch. Batch n is loaded by worker n modulo the number of workers.
        base_seed: of the interrupted epoch; worker n starts with the seed ``base_seed + n``.
        states: random states by number of the worker; a worker without one had not loaded a batch.
    """

    def __init__(self, inner: Any, first: int, base_seed: int, states: dict[int, dict]) -> None:
        self.inner, self.first, self.base_seed, self.states = inner, first, base_seed, states

    def __call__(self, worker_id: int) -> None:
        worker: Any = get_worker_info()
        number = (self.first + worker_id) % worker.num_workers
        random.seed(self.base_seed + number)
        torch.manual_seed(self.base_seed + number)
        if self.inner is not None:
            self.inner(number)
        if number in self.states:
            set_random_state(self.states[number])


class _Rest(BatchSampler):
    """The batches of a batch sampler without the first ones, which are not loaded."""

    def __init__(self, inner: Any, skipped: int) -> None:
        self.inner, self.skipped = inner, skipped

    def __iter__(self) -> Iterator[list[int]]:
        return islice(iter(self.inner), self.skipped, None)

    def __len__(self) -> int:
        return max(0, len(self.inner) - self.skipped)


class Batches:
    """The batches of a data loader: one pass, which can start after the batches of an interrupted pass.

    The batch sampler must have its own generator, as those of mmengine do. Skipped batches are not loaded.

    Attributes:
        position: number of batches of the pass that have been used.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.position = 0
        self._base_seed: int | None = None
        self._workers: dict[int, dict] = {}
        self._random_state: Any = None

    def state_dict(self) -> dict[str, Any]:
        """State after the last batch, with the random states of this process and of its data workers."""
        return dict(
            position=self.position,
            num_batches=len(self.loader),
            num_workers=self.loader.num_workers,
            base_seed=self._base_seed,
            workers=dict(self._workers),
            sampler_seed=getattr(self.sampler, "seed", None),
            random_state=random_state(),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the last batch of a state.

        Raises:
            CheckpointError: an entry has a wrong type.
        """
        numbers = [state.get(key) for key in ("position", "num_batches", "num_workers")]
        seed, workers = state.get("base_seed"), state.get("workers")
        if not all(type(number) is int and number >= 0 for number in numbers) or not isinstance(workers, dict):
            raise CheckpointError("the checkpoint's position in the training data is invalid")
        known_seed = seed is None or type(seed) is int and 0 <= seed < 2**63
        if not known_seed or not all(type(worker) is int for worker in workers):
            raise CheckpointError("the checkpoint's seeds of the data workers are invalid")
        self.position, self._random_state = state["position"], state.get("random_state")
        self._base_seed, self._workers = seed, dict(workers)
        sampler_seed = state.get("sampler_seed")
        # Without randomness.seed in the config, the sampler has drawn another seed.
        if type(sampler_seed) is int and 0 <= sampler_seed < 2**32 and hasattr(self.sampler, "seed"):
            self.sampler.seed = sampler_seed

    @property
    def sampler(self) -> Any:
        """The sampler of the cases."""
        batch_sampler = self.loader.batch_sampler
        return getattr(batch_sampler, "sampler", batch_sampler)

    def forget_workers(self) -> None:
        """Give new random states to the data workers."""
        self._base_seed, self._workers = None, {}

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
        self.forget_workers()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Number of the batch in its pass, and the batch."""
        iterator = iter(self._loader())
        # Creating the iterator has drawn the seed of the data workers.
        self.restore_random_state()
        return self._numbered(iterator)

    def _numbered(self, iterator: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        for batch in iterator:
            number, self.position = self.position, self.position + 1
            if isinstance(batch, WorkerBatch):
                self._base_seed = batch.base_seed
                self._workers[number % self.loader.num_workers] = batch.state
                batch = batch.data
            yield number, batch

    def _loader(self) -> DataLoader:
        loader = self.loader
        if not self.position and not loader.num_workers:
            return loader
        init = loader.worker_init_fn
        if self.position and self._base_seed is not None:
            init = ResumeWorker(init, self.position, self._base_seed, self._workers)
        options = dict(prefetch_factor=loader.prefetch_factor) if loader.num_workers else {}
        return DataLoader(
            loader.dataset,
            batch_sampler=_Rest(loader.batch_sampler, self.position),
            num_workers=loader.num_workers,
            collate_fn=CollateWithState(loader.collate_fn, self._base_seed),
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=init,
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
            **options,
        )
