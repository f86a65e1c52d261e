"""Published figures of other models, for orientation. They are not measured with this package."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class PublishedFigure:
    """One figure.

    Attributes:
        value: from 0 to 1.
        n: number of cases; None if the source does not state it.
        protocol: prompts, rule and evaluation set, as far as they are known.
        source: paper of the model, and where the value was read.
    """

    model: str
    data_set: str
    metric: str
    value: float
    n: int | None
    protocol: str
    source: str

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return asdict(self)


def published_figures() -> list[PublishedFigure]:
    """All figures of ``ctvlm/evaluation/data/published.json``."""
    text = files("ctvlm.evaluation").joinpath("data").joinpath("published.json").read_text(encoding="utf-8")
    return [PublishedFigure(**figure) for figure in json.loads(text)]
