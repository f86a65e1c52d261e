"""Figures of an evaluation: metrics with intervals, ROC curves, reliability, and a map of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def metrics_figure(rows: Sequence[tuple[str, float, float | None, float | None, float | None]]) -> Figure:
    """Values with intervals and chance levels; a row is (name, value, low, high, chance), None if unknown."""
    figure, axes = _figure(8.0, 1.2 + 0.24 * len(rows))
    for y, (_, value, low, high, chance) in enumerate(rows):
        if low is not None and high is not None:
            axes.plot([low, high], [y, y], color="C0", linewidth=2, alpha=0.5)
        axes.plot(value, y, "o", color="C0", markersize=5, label="value (bar: 95% interval)")
        if chance is not None:
            axes.plot(chance, y, "|", color="C3", markersize=9, label="chance or constant report")
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=8)
    handles, labels = axes.get_legend_handles_labels()
    one_each = dict(zip(labels, handles, strict=True))
    axes.legend(one_each.values(), one_each.keys(), fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncol=2)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="x", alpha=0.3)
    return figure


def models_figure(
    rows: Mapping[str, Sequence[tuple[float, float | None, float | None] | None]], models: Sequence[str]
) -> Figure:
    """Values of several models per metric; a cell is (value, low, high), None where a model has no value."""
    figure, axes = _figure(8.0, 1.4 + 0.16 * max(1, len(rows)) * (len(models) + 1))
    step = 1 / (len(models) + 1)
    for number, model in enumerate(models):
        cells = [(y + number * step, cell) for y, row in enumerate(rows.values()) if (cell := row[number]) is not None]
        colour = f"C{number % 10}"
        for y, (_, low, high) in cells:
            if low is not None and high is not None:
                axes.plot([low, high], [y, y], color=colour, linewidth=2, alpha=0.5)
        axes.plot([cell[0] for _, cell in cells], [y for y, _ in cells], "o", color=colour, markersize=4, label=model)
    middle = (len(models) - 1) * step / 2
    axes.set_yticks([y + middle for y in range(len(rows))], list(rows), fontsize=8)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncol=2, title="bar: 95% interval")
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="x", alpha=0.3)
    return figure


def roc_figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], areas: Mapping[str, float]) -> Figure:
    """One ROC curve per finding (false and true positive rates) with its area in the legend."""
    figure, axes = _figure(9.0, 5.6)
    for number, (name, (fpr, tpr)) in enumerate(curves.items()):
        colour, style = colormaps["tab10"](number % 10), ("-", "--", ":")[number // 10 % 3]
        axes.plot(fpr, tpr, color=colour, linestyle=style, linewidth=1.3, label=f"{name} {areas[name]:.2f}")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def reliability_figure(mean_K: np.ndarray, present_K: np.ndarray, counts_K: np.ndarray, title: str) -> Figure:
    """Share of positives against mean probability per bin; the area of a point shows its number of cases."""
    figure, axes = _figure(5.2, 5.0)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes.plot(mean_K, present_K, color="C0", linewidth=1)
    axes.scatter(mean_K, present_K, s=20 + 180 * counts_K / counts_K.max(), color="C0", alpha=0.6)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="mean probability", ylabel="share of positives")
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    return figure


def embedding_figure(points_N2: np.ndarray, groups: Sequence[str], title: str, background: str) -> Figure:
    """Points coloured by group; the group ``background`` is grey and below the others."""
    figure, axes = _figure(8.4, 5.6)
    names = sorted(set(groups) - {background}, key=lambda name: -groups.count(name))
    for number, name in enumerate([background, *names]):
        chosen = np.array([group == name for group in groups])
        colour = "0.75" if number == 0 else colormaps["tab10" if len(names) <= 10 else "tab20"](number - 1)
        if chosen.any():
            axes.scatter(*points_N2[chosen].T, s=22, color=[colour], label=f"{name} ({int(chosen.sum())})")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def _figure(width: float, height: float):
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()
