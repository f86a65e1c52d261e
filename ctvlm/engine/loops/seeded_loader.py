"""A data loader whose random numbers depend on the seed of the run, the epoch and the case only."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import BatchSampler, DataLoader

from ctvlm.engine.loading.case_fetcher import load_case
from ctvlm.engine.loading.packed_batch import PackedBatch
from ctvlm.engine.loading.worker_errors import end_if_a_batch_is_lost
from ctvlm.utils.env import random_states_kept, seed_everything

# The kind of draw is a part of the seed.
_CASE, _BATCH = 1, 2


class CaseKey(NamedTuple):
    """What the main process sends to a data worker: the index of a case, and the entropy of its random numbers."""

    index: Any
    entropy: tuple[int, ...]


class SeededBatches:
    """The batches of a data set. Each case and each call of ``collate_fn`` has its own seed.

    The global generators of Python, NumPy and torch (CPU) are seeded, and restored afterwards: the random numbers of
    the model do not depend on the data.
    """

    def __init__(self, dataset: Any, collate_fn: Callable[[list], Any]) -> None:
        self.dataset, self.collate_fn = dataset, collate_fn

    def __getitems__(self, keys: Sequence[CaseKey]) -> Any:
        samples = []
        with random_states_kept(devices=False):
            for key in keys:
                seed_everything(_CASE, *key.entropy, devices=False)
                samples.append(load_case(self.dataset, key.index))
            seed_everything(_BATCH, *keys[0].entropy, devices=False)
            return self.collate_fn(samples)


class CaseKeys(BatchSampler):
    """Batches of ``CaseKey`` for the indices of a batch sampler.

    The entropy is (seed, epoch, turn, occurrence, index). ``turn`` is the number of earlier passes over all cases
    within the epoch (samplers without end); ``occurrence`` counts a case that is repeated within a turn. Both do not
    depend on the number of processes with mmengine's samplers, which give process r the cases r, r + n, r + 2n ...

    Args:
        dataset: is told the cases before they are read (``expect``), and when no more are read (``expect_no_more``).

    Attributes:
        seed, epoch: of the next pass.
        skipped: number of its first batches that are not loaded.
    """

    def __init__(self, inner: Any, num_cases: int, dataset: Any = None) -> None:
        self.inner, self.num_cases, self.dataset = inner, num_cases, dataset
        self.seed = self.epoch = self.skipped = 0

    def __len__(self) -> int:
        return max(0, len(self.inner) - self.skipped)

    def __iter__(self) -> Iterator[list[CaseKey]]:  # type: ignore[override]
        if self.dataset is None:
            yield from self._batches()
            return
        waiting: deque[list[CaseKey]] = deque()
        try:
            for batch in self._batches():
                waiting.append(batch)
                self.dataset.expect(key.index for key in batch)
                if sum(map(len, waiting)) > self.dataset.ahead:
                    yield waiting.popleft()
            yield from waiting
        finally:
            self.dataset.expect_no_more()

    def _batches(self) -> Iterator[list[CaseKey]]:
        seed, epoch, skipped = self.seed, self.epoch, self.skipped
        seen: Counter[Any] = Counter()
        position, last = get_rank(), 0
        for number, indices in enumerate(self.inner):
            batch = []
            for index in indices:
                turn = position // self.num_cases
                if turn != last:
                    seen.clear()
                batch.append(CaseKey(index, (seed, epoch, turn, seen[index], index)))
                seen[index] += 1
                position, last = position + get_world_size(), turn
            if number >= skipped:
                yield batch


class SeededLoader(DataLoader):
    """A data loader with the batches and attributes of another one, whose random numbers are seeded by case.

    The number of data workers, persistent workers, the number of processes and a resumed run do not change what
    transforms draw from the global generators of Python, NumPy and torch.

    Args:
        loader: the data loader, with a batch sampler.
        seed: of the run.
    """

    def __init__(self, loader: DataLoader, seed: int) -> None:
        self.__dict__.update(loader.__dict__)
        self.seed = seed
        # Data workers have their own copies of the data set.
        tells = self.num_workers == 0 and hasattr(self.dataset, "expect")
        self._keys = CaseKeys(self.batch_sampler, len(self.dataset), self.dataset if tells else None)  # type: ignore[arg-type]
        self._inner: DataLoader | None = None

    @property
    def case_sampler(self) -> Any:
        """The sampler of the cases."""
        return getattr(self.batch_sampler, "sampler", self.batch_sampler)

    def __iter__(self) -> Any:
        return self.batches(getattr(self.case_sampler, "epoch", 0))

    def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """The batches of an epoch, from the batch with number ``first`` on. Earlier ones are not loaded."""
        self._keys.seed, self._keys.epoch, self._keys.skipped = self.seed, epoch, first
        if self._inner is None:
            self._inner = self._build()
        # As DataLoader does for a new iterator. Persistent workers keep their iterator.
        self._inner.generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        batches = iter(self._inner)
        return map(PackedBatch.unpack, batches) if self.num_workers else batches

    def _build(self) -> DataLoader:
        return DataLoader(
            SeededBatches(self.dataset, self.collate_fn),  # type: ignore[arg-type]
            batch_sampler=self._keys,
            num_workers=self.num_workers,
            collate_fn=PackedBatch.pack if self.num_workers else _unchanged,
            pin_memory=self.pin_memory,
            timeout=self.timeout,
            worker_init_fn=partial(_start_worker, self.worker_init_fn),
            multiprocessing_context=self.multiprocessing_context,
            generator=torch.Generator(),
            persistent_workers=self.persistent_workers,
            prefetch_factor=self.prefetch_factor,
        )


def _unchanged(batch: Any) -> Any:
    return batch


def _start_worker(start: Callable[[int], None] | None, worker: int) -> None:
    end_if_a_batch_is_lost()
    if start is not None:
        start(worker)
