"""Base class of the metrics of reasoning steps."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from ctvlm.evaluation.metrics.case_metric import CaseMetric, step_field
from ctvlm.structures import STAGES


class StepMetric(CaseMetric):
    """A metric of reasoning steps, which also scores the steps of each stage, as ``<stage>/<name>``.

    The scores of a stage (``ctvlm.structures.STAGES``) are those of the same cases with only the steps of that stage.
    A stage without steps is left out, so data without stages has no such scores. Steps with an unknown stage, which
    only a dump can have, are treated as steps without one: they count in the total only.
    """

    @property
    @abstractmethod
    def per_step(self) -> tuple[str, ...]:
        """Keys of a record with one item per scored step. A record also has their ``stages`` (see ``step_stage``)."""

    def all_scores(self, cases: list[dict[str, Any]]) -> dict[str, float | str]:
        scores = super().all_scores(cases)
        resamples = self.resamples
        for stage in STAGES:
            of_stage = [self._of_stage(case, stage) for case in cases]
            if not any(case["stages"] for case in of_stage):
                continue
            self.resamples = {}
            own = {name: value for name, value in self.score(of_stage).items() if _is_total(name, value)}
            scores |= {f"{stage}/{name}": value for name, value in own.items()}
            resamples |= {f"{stage}/{name}": self.resamples[name] for name in self.resamples}
        self.resamples = resamples
        return scores

    def _of_stage(self, case: dict[str, Any], stage: str) -> dict[str, Any]:
        """A record with only the steps of a stage."""
        rows = [row for row, own in enumerate(case["stages"]) if own == stage]
        return {**case, **{key: _rows(case[key], rows) for key in (*self.per_step, "stages")}}


def step_stage(step: Any) -> str:
    """Stage of a step (CoTStep, or plain dict from a dump, which can be of an earlier version); "" without one."""
    return step_field(step, "stage") or ""


def _rows(values: Any, rows: list[int]) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]


def _is_total(name: str, value: Any) -> bool:
    """Not the score of one finding, and not a description."""
    return "/" not in name and not isinstance(value, str)
