"""Data sets that keep the results of the first transforms."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from ctvlm.utils.shared_cache import SharedCache


class CachesPipeline:
    """Mixin for mmengine data sets: keeps the results of the leading deterministic transforms of the pipeline.

    Data workers share them, also those of later epochs, so that a case is read once in a run (see ``SharedCache``).
    Each process of a distributed training has its own. A subclass implements ``read_case(idx)``, the input of the
    pipeline.
    """

    pipeline: Any
    _cached: SharedCache | None = None

    def set_cache(self, cache: bool, transforms: Sequence[Any]) -> None:
        """Keep results or not; ``transforms`` are those of the pipeline.

        Warns:
            UserWarning: there is nothing to keep, because the first transform is random.
        """
        self._cached = None
        if not cache:
            return
        if transforms and not is_deterministic(transforms[0]):
            first = type(transforms[0]).__name__
            warnings.warn(
                f"{type(self).__name__}: cache=True has no effect, because the first transform ({first}) is random. "
                "Put deterministic transforms (LoadCT, ResampleCT) first, or set cache=False",
                stacklevel=3,
            )
            return
        self._cached = SharedCache(type(self).__name__)

    @property
    def kept(self) -> SharedCache | None:
        """The cases in memory."""
        return self._cached

    @property
    def prefix_length(self) -> int:
        """Number of leading deterministic transforms."""
        transforms = self.pipeline.transforms
        return next((i for i, t in enumerate(transforms) if not is_deterministic(t)), len(transforms))

    def read_case(self, idx: int) -> dict:
        """Input of the pipeline."""
        raise NotImplementedError

    def load_case(self, idx: int) -> Any:
        """Result of the pipeline for a case.

        Raises:
            IndexError: there is no such case. Iteration over the data set ends with it.
        """
        results: Any = self.prefix(range(len(self))[idx])  # type: ignore[arg-type]
        for transform in self.pipeline.transforms[self.prefix_length :]:
            results = transform(results)
            if results is None:
                return None
        return results

    def prefix(self, idx: int) -> dict:
        """Results of the leading deterministic transforms; ``idx`` is not negative."""
        if self._cached is not None:
            results = self._cached.get(idx)
            if results is not None:
                return results
        return self.keep_prefix(idx, self.read_case(idx))

    def keep_prefix(self, idx: int, results: dict) -> dict:
        """Apply the leading deterministic transforms to an input, and keep the results."""
        for transform in self.pipeline.transforms[: self.prefix_length]:
            results = transform(results)
        if self._cached is not None:
            self._cached.put(idx, results)
        return results

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        """Keep some of the cases only (see mmengine)."""
        super().get_subset_(indices)  # type: ignore[misc]
        if self.kept is not None:  # other cases have these indices now
            self.kept.clear()


def is_deterministic(transform: Any) -> bool:
    """Whether a transform always has the same result."""
    return bool(getattr(transform, "deterministic", False))
