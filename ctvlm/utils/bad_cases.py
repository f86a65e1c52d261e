"""Data sets that raise or replace cases that cannot be read."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctvlm.utils.checks import check_choice
from ctvlm.utils.errors import BadDataError, CTVLMError
from ctvlm.utils.terminal_text import printable

RAISE, SKIP = "raise", "skip"
# Errors of files. Any other error, such as a TypeError of a transform, is a fault of the code and is always raised.
BAD_DATA = (BadDataError, OSError, EOFError, zlib.error)


class BadCaseWarning(UserWarning):
    """A case cannot be read, and another one is used instead."""


class TooManyBadCasesError(CTVLMError):
    """More cases than ``max_bad_cases`` cannot be read."""


class ReplacesBadCases:
    """Mixin for mmengine data sets: ``bad_cases="skip"`` replaces a case that cannot be read or transformed.

    The replacement depends on the index of the case and the number of cases only, so that results do not depend on
    the number of data workers, and a resumed training is identical. The cases are counted in all data workers of a
    process. A subclass implements ``load_case(idx)`` instead of ``prepare_data(idx)``.

    Attributes:
        bad_cases: ``raise`` or ``skip``.
        max_bad_cases: largest fraction of the cases that may be replaced; one case is always allowed.
    """

    bad_cases: str
    max_bad_cases: float
    _is_bad: Tensor | None = None

    def set_bad_cases(self, bad_cases: str, max_bad_cases: float, test_mode: bool) -> None:
        """Set the options; call this before ``__init__`` of mmengine's BaseDataset.

        Raises:
            ValueError: an unknown value, or cases of a test would be replaced.
        """
        check_choice(type(self).__name__, "bad_cases", bad_cases, (RAISE, SKIP))
        if not 0 < max_bad_cases <= 1:
            raise ValueError(f"max_bad_cases: found {max_bad_cases}; expected a fraction of the cases, above 0 up to 1")
        if test_mode and bad_cases == SKIP:
            raise ValueError("bad_cases: found 'skip' with test_mode=True; an evaluation expects 'raise'")
        self.bad_cases, self.max_bad_cases = bad_cases, max_bad_cases

    def full_init(self) -> None:
        """Load the list of cases, and prepare the count that the data workers share."""
        super().full_init()  # type: ignore[misc]
        if self.bad_cases == SKIP and self._is_bad is None:
            self._is_bad = torch.zeros(len(self), dtype=torch.uint8).share_memory_()  # type: ignore[arg-type]

    def load_case(self, idx: int) -> Any:
        """Result of the pipeline for a case."""
        raise NotImplementedError

    def prepare_data(self, idx: int) -> Any:
        """Result of the pipeline for a case, or for its replacement.

        Raises:
            TooManyBadCasesError: see ``max_bad_cases``.
        """
        if self.bad_cases == RAISE:
            return self.load_case(idx)
        candidates = self._candidates(idx)
        while True:  # ends, because max_bad_cases allows at most all cases except one
            candidate = next(candidates)
            try:
                return self.load_case(candidate)
            except BAD_DATA as error:
                self.record_bad_case(candidate, error)

    def bad_case_ids(self) -> list[str]:
        """Ids of the cases that could not be read so far."""
        found = [] if self._is_bad is None else self._is_bad.nonzero().flatten().tolist()
        return [str(self.get_data_info(idx)["case_id"]) for idx in found]  # type: ignore[attr-defined]

    def record_bad_case(self, idx: int, error: Exception) -> None:
        """Count a case, and warn if it is new.

        Raises:
            TooManyBadCasesError: see ``max_bad_cases``.
        """
        total = len(self)  # type: ignore[arg-type]
        if self._is_bad is None or len(self._is_bad) < total:  # a subset of the data set
            self._is_bad = torch.zeros(total, dtype=torch.uint8)
        known = bool(self._is_bad[idx])
        self._is_bad[idx] = 1
        count, limit = int(self._is_bad.sum()), self._max_count(total)
        case = printable(self.get_data_info(idx)["case_id"])  # type: ignore[attr-defined]
        if count > limit:
            raise TooManyBadCasesError(
                f"{count} of {total} cases cannot be read; the limit is {limit} (max_bad_cases={self.max_bad_cases:g})"
                f". The last one is {case}: {_one_line(error)}"
            ) from error
        if not known:
            message = f"case {case} is replaced by another ({count} of {total}, the limit is {limit})"
            warnings.warn(f"{message}: {_one_line(error)}", BadCaseWarning, stacklevel=2)

    def _max_count(self, total: int) -> int:
        return min(max(1, int(self.max_bad_cases * total)), total - 1)

    def _candidates(self, idx: int) -> Iterator[int]:
        """The case, then other cases in an order that depends on its index only."""
        total = len(self)  # type: ignore[arg-type]
        idx = range(total)[idx]
        yield idx
        rng = np.random.default_rng([idx, total])
        while True:
            yield int(rng.integers(total))


def skipping(dataset: Any) -> list[ReplacesBadCases]:
    """Data sets with ``bad_cases="skip"``: the given one, or those inside a wrapper."""
    if isinstance(dataset, ReplacesBadCases):
        return [dataset] if dataset.bad_cases == SKIP else []
    inside = getattr(dataset, "datasets", None) or [
        one for name in ("dataset", "_dataset") if (one := getattr(dataset, name, None)) is not None
    ]
    return [found for one in inside for found in skipping(one)]


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return printable(text or type(error).__name__)
