"""Loading of the cases of a batch, which names the case of an error and records what each data worker loads."""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, get_worker_info

from ctvlm.utils import CaseError, CTVLMError
from ctvlm.utils.bad_cases import TooManyBadCasesError
from ctvlm.utils.terminal_text import printable

_USER_ERRORS = (CTVLMError, ValueError, OSError, MemoryError)


class Loading(NamedTuple):
    """What a data worker does: its number, its process, the case (``""``: none) and for how many seconds."""

    worker: int
    pid: int
    case: str
    seconds: int


class CaseFetcher:
    """``__getitems__`` of a data set, which torch calls for each batch.

    Raises:
        CaseError: a case cannot be read or transformed.
        RuntimeError: the code of the data set or of a transform failed; with the case.
    """

    def __init__(self, dataset: Any, num_workers: int) -> None:
        self.dataset = dataset
        # Process, index of the case (-1: none), and time at which it began, of each worker. The workers write into
        # shared memory, which can be read after a worker has been killed.
        self._rows = torch.full((max(1, num_workers), 3), -1, dtype=torch.int64)
        if num_workers:
            self._rows.share_memory_()

    def __call__(self, indices: list[int]) -> list[Any]:
        """Cases of a batch."""
        items = []
        for index in indices:
            self._record(index)
            try:
                items.append(self.dataset[index])
            except Exception as error:
                if isinstance(error, (CaseError, TooManyBadCasesError)):
                    raise
                raise case_error(error, case_name(self.dataset, index)) from error
        self._record(-1)
        return items

    def loading(self) -> list[Loading]:
        """What the data workers do."""
        now = int(time.time())
        return [
            Loading(worker, pid, case_name(self.dataset, index) if index >= 0 else "", now - since)
            for worker, (pid, index, since) in enumerate(self._rows.tolist())
            if pid > 0
        ]

    def _record(self, index: int) -> None:
        worker = get_worker_info()
        if worker is not None and worker.id < len(self._rows):
            self._rows[worker.id] = torch.tensor([os.getpid(), index, int(time.time())])


def name_cases(loader: DataLoader) -> DataLoader:
    """Let errors of a data loader contain the case; data sets that have ``__getitems__`` are unchanged."""
    dataset: Any = loader.dataset
    if hasattr(dataset, "__getitem__") and not hasattr(type(dataset), "__getitems__"):
        dataset.__getitems__ = CaseFetcher(dataset, loader.num_workers)
    return loader


def load_case(dataset: Any, index: int) -> Any:
    """Item of a data set; if it has a CaseFetcher, with its errors."""
    fetcher = getattr(dataset, "__getitems__", None)
    return fetcher([index])[0] if isinstance(fetcher, CaseFetcher) else dataset[index]


def fetcher_of(loader: DataLoader) -> CaseFetcher | None:
    """The CaseFetcher of a data loader."""
    fetcher = getattr(loader.dataset, "__getitems__", None)
    return fetcher if isinstance(fetcher, CaseFetcher) else None


def case_name(dataset: Any, index: int) -> str:
    """``case ID (FILE)``; without ids, the number of the item."""
    try:
        info = dataset.get_data_info(index)
        name = f"case {info['case_id']}"
    except Exception:  # data sets without ids, and damaged entries
        return f"item {index} of the data set"
    volume = info.get("volume")
    path = volume.get("path") if isinstance(volume, dict) else volume
    return printable(f"{name} ({path})" if isinstance(path, str) else name)


def case_error(error: Exception, name: str) -> Exception:
    """The error of a case: a CaseError with one line, or a RuntimeError if the code has a fault."""
    text = printable(" ".join(str(error).split()))
    if isinstance(error, MemoryError):
        return CaseError(
            f"{name}: not enough memory ({text or 'MemoryError'}). Use fewer data workers, a smaller batch, or no cache"
        )
    if isinstance(error, OSError) and error.strerror:
        text = printable(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    if isinstance(error, _USER_ERRORS) and text:
        return CaseError(f"{name}: {text}")
    return RuntimeError(f"{name}: {type(error).__name__}: {text}")
