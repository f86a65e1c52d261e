"""What all metrics share: one record per case, the same numbers on any number of ranks."""

from __future__ import annotations

import logging
import sys
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ctvlm.evaluation.functional.bootstrap import bootstrap_intervals
from ctvlm.utils import natural_key


class CaseMetric(BaseMetric):
    """Collect a record of each case, drop the repeats, score all cases at once.

    Samplers repeat cases so that all ranks have equally many, and mmengine cuts the gathered list at the data set's
    length: right only where the repeats come last. Here a case counts once by its ``case_id``, whatever the order, and
    cases are sorted by it, so that neither the number of ranks nor the order changes a result.

    Args:
        bootstrap: resamples of patients for intervals (``<name>_low``, ``<name>_high``); 0 for none. 1,000 is usual.
        bootstrap_method: ``percentile`` or ``BCa``.
        level: level of the intervals.
    """

    def __init__(
        self,
        bootstrap: int = 0,
        bootstrap_method: str = "percentile",
        level: float = 0.95,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.bootstrap = bootstrap
        self.bootstrap_method = bootstrap_method
        self.level = level
        self._size: int | None = None

    @property
    def needs(self) -> frozenset[str] | None:
        """Keys of a data sample that ``record`` reads besides ``case_id`` and ``patient_id``; None: any key.

        A subclass overrides it with a class attribute, or with a property where it depends on options.
        """
        return None

    # The part of ``needs`` that every data sample may lack: the metric is defined without it.
    optional_needs: frozenset[str] = frozenset()

    def missing_keys(self, available: Collection[str]) -> list[str]:
        """Keys without which no case can be scored, and which are not among the ``available`` ones."""
        return sorted((self.needs or frozenset()) - self.optional_needs - set(available))

    @abstractmethod
    def record(self, sample: dict) -> dict[str, Any] | None:
        """What is needed of one case, in arrays and plain containers; None where it has nothing to score."""

    @abstractmethod
    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        """Metrics of the records of all cases, sorted by ``case_id``; each also has ``patient_id``.

        Without a case that counts: the same names, NaN (counts 0).
        """

    def metric_names(self) -> list[str]:
        """Names under which results are reported, but for those that come with the data (per finding)."""
        prefix = self.prefix or self.default_prefix
        return [f"{prefix}/{name}" for name in self.score([])]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            case = sample.get("case_id")
            if not case:
                raise ValueError(
                    f"{type(self).__name__}: a data sample has no case_id; cases gathered from several processes are "
                    "told apart by it (PackCTInputs passes it on)."
                )
            # Never None: mmengine drops None from what it gathers, and the case would look as if it had not been seen.
            record = {"case_id": str(case), "patient_id": str(sample.get("patient_id") or case)}
            self.results.append({**record, "record": self.record(sample)})

    def evaluate(self, size: int) -> dict[str, float]:
        self._size = size
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        if not results:
            raise ValueError(f"{type(self).__name__} got no case: is the data set empty?")
        unique = {result["case_id"]: result for result in reversed(results)}
        if self._size is not None and len(unique) < self._size:
            if len(results) >= self._size:
                raise ValueError(
                    f"{type(self).__name__}: {self._size} items in the data set have only {len(unique)} different "
                    "case_ids; equal ids would be counted as one case. Give every item its own."
                )
            print_log(f"{type(self).__name__} scored {len(unique)} of {self._size} cases.", "current", logging.WARNING)
        ordered = [unique[case] for case in sorted(unique, key=natural_key)]
        return self.score(
            [
                {"case_id": result["case_id"], "patient_id": result["patient_id"], **result["record"]}
                for result in ordered
                if result["record"] is not None
            ]
        )

    def with_intervals(
        self, statistic: Callable[[np.ndarray], dict[str, float]], patients: Sequence[str]
    ) -> dict[str, float]:
        """Values of a statistic of case indices, each followed by its interval where intervals are wanted."""
        values = statistic(np.arange(len(patients)))
        if not self.bootstrap or not patients:
            return values
        intervals = bootstrap_intervals(
            lambda index: np.array(list(statistic(index).values())),
            patients,
            num_resamples=self.bootstrap,
            level=self.level,
            method=self.bootstrap_method,
        )
        metrics = {}
        for number, (name, value) in enumerate(values.items()):
            metrics[name] = value
            metrics[f"{name}_low"], metrics[f"{name}_high"] = (
                float(intervals.low[number]),
                float(intervals.high[number]),
            )
        return metrics


def to_array(value: Any) -> np.ndarray:
    """Tensor or array as a numpy array, half precision widened."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
        value = value.numpy()
    return np.asarray(value)


def step_regions(step: Any) -> tuple[int, ...]:
    """Region ids of a step: of a CoTStep, or of the plain dict a dump holds.

    Empty for a step without text. Such a step says nothing about its regions, so no metric pairs it with them.
    """
    return tuple(step_field(step, "regions")) if says_something(step_field(step, "text")) else ()


def says_something(text: str | None) -> bool:
    """Whether a text is there and not blank."""
    return bool(text and text.strip())


def step_field(step: Any, name: str) -> Any:
    """A field of a CoTStep, or of the plain dict a dump holds."""
    return step.get(name) if isinstance(step, dict) else getattr(step, name)
