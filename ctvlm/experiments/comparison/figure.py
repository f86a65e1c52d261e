"""Figure of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from ctvlm.experiments.comparison.scores import ModelScores
from ctvlm.experiments.comparison.table import columns_of, label
from ctvlm.visualization.evaluation_plots import models_figure


def comparison_figure(models: Sequence[ModelScores]) -> Figure:
    """Values with intervals of all models in the metrics of the table that lie between 0 and 1."""
    rows = {}
    for key in columns_of(models):
        found = [model.rows.get(key) for model in models]
        if all(row is None or math.isnan(row.value) or 0 <= row.value <= 1 for row in found):
            rows[key] = [
                None if row is None or math.isnan(row.value) else (row.value, row.low, row.high) for row in found
            ]
    return models_figure(rows, [label(model) for model in models])
