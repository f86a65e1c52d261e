"""Base class of all metrics."""

from __future__ import annotations

import logging
import sys
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ctvlm.evaluation.functional.bootstrap import Resamples, bootstrap_intervals
from ctvlm.utils import natural_key


class CaseMetric(BaseMetric):
    """Collect one record per case and score all cases together.

    The result does not depend on the number of ranks or the order of the cases: each ``case_id`` is scored once, and
    cases are sorted by it. (Samplers repeat cases so that all ranks have equal numbers, and mmengine removes the
    repeats by truncating the gathered list, which is correct only if they come last.)

    Args:
        bootstrap: number of resamples of patients for 95% intervals (``<name>_low``, ``<name>_high``), usually 1,000;
            0 computes no intervals.

    Attributes:
        resamples: after ``evaluate``, each result with an interval (without prefix) on the resamples of patients, for
            paired differences between models.
    """

    def __init__(self, bootstrap: int = 0, collect_device: str = "cpu", prefix: str | None = None):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.bootstrap = bootstrap
        self.resamples: dict[str, Resamples] = {}
        self._size: int | None = None

    @property
    def needs(self) -> frozenset[str] | None:
        """Keys of a data sample that ``record`` reads, in addition to ``case_id`` and ``patient_id``; None means all.

        Subclasses override it with a class attribute, or with a property if it depends on options.
        """
        return None

    # The keys in ``needs`` that the metric can do without.
    optional_needs: frozenset[str] = frozenset()

    def missing_keys(self, available: Collection[str]) -> list[str]:
        """Required keys that are not available."""
        return sorted((self.needs or frozenset()) - self.optional_needs - set(available))

    @abstractmethod
    def record(self, sample: dict) -> dict[str, Any] | None:
        """Data of one case for ``score``, as arrays and plain containers; None excludes the case."""

    @abstractmethod
    def score(self, cases: list[dict[str, Any]]) -> Mapping[str, float | str]:
        """Results from the records of all cases, sorted by ``case_id``. A record also has ``case_id``, ``patient_id``.

        Without cases, the names are the same and the values are NaN (counts are 0).
        """

    def metric_names(self) -> list[str]:
        """Names of the results, without those that depend on the data (per finding)."""
        prefix = self.prefix or self.default_prefix
        return [f"{prefix}/{name}" for name in self.score([])]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            case = sample.get("case_id")
            if not case:
                raise ValueError(
                    f"{type(self).__name__}: found a data sample without case_id; expected an id to identify cases of "
                    "several processes. Use PackCTInputs, or set it in the data set."
                )
            # Always a dict: mmengine drops None from the gathered results, and the case would seem to be missing.
            ids = {"case_id": str(case), "patient_id": str(sample.get("patient_id") or case)}
            self.results.append({**ids, "record": self.record(sample)})

    def evaluate(self, size: int) -> dict[str, float | str]:
        self._size = size
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float | str]:
        if not results:
            raise ValueError(f"{type(self).__name__}: found no case. Check whether the data set is empty.")
        unique = {result["case_id"]: result for result in reversed(results)}
        if self._size is not None and len(unique) < self._size:
            if len(results) >= self._size:
                raise ValueError(
                    f"{type(self).__name__}: found {len(unique)} different case_ids for {self._size} items of the data "
                    "set; expected one per item. Give each item its own case_id."
                )
            print_log(f"{type(self).__name__} scored {len(unique)} of {self._size} cases.", "current", logging.WARNING)
        ordered = [unique[case] for case in sorted(unique, key=natural_key)]
        scored = [
            {"case_id": result["case_id"], "patient_id": result["patient_id"], **result["record"]}
            for result in ordered
            if result["record"] is not None
        ]
        return self.all_scores(scored)

    def all_scores(self, cases: list[dict[str, Any]]) -> dict[str, float | str]:
        """The results of ``score``; subclasses add those of parts of the data."""
        return dict(self.score(cases))

    def with_intervals(
        self, statistic: Callable[[np.ndarray], dict[str, float]], patients: Sequence[str]
    ) -> dict[str, float]:
        """Values of a statistic of case indices, each followed by its interval if ``bootstrap`` is set."""
        values = statistic(np.arange(len(patients)))
        if not self.bootstrap or not patients:
            return values
        intervals = bootstrap_intervals(
            lambda index: np.array(list(statistic(index).values())),
            patients,
            num_resamples=self.bootstrap,
        )
        metrics = {}
        for number, (name, value) in enumerate(values.items()):
            metrics[name] = value
            self.resamples[name] = Resamples(tuple(patients), intervals.resampled[number])
            metrics[f"{name}_low"], metrics[f"{name}_high"] = (
                float(intervals.low[number]),
                float(intervals.high[number]),
            )
        return metrics


def to_array(value: Any) -> np.ndarray:
    """Convert a tensor or array to a numpy array, half precision to float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
        value = value.numpy()
    return np.asarray(value)


def step_regions(step: Any) -> tuple[int, ...]:
    """Region ids of a step (CoTStep, or plain dict from a dump); empty for a step without text."""
    return tuple(step_field(step, "regions")) if has_text(step_field(step, "text")) else ()


def has_text(text: str | None) -> bool:
    """Whether a text is neither None nor blank."""
    return bool(text and text.strip())


def step_field(step: Any, name: str) -> Any:
    """A field of a step (CoTStep, or plain dict from a dump)."""
    return step.get(name) if isinstance(step, dict) else getattr(step, name)
