"""Training curves of one or several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# x and y values of one curve.
Curve = tuple[Sequence[float], Sequence[float]]


def curves_page(panels: Mapping[str, Mapping[str, Curve]], xlabels: Mapping[str, str], title: str = "") -> Figure:
    """One panel per metric with one curve per run, and a legend.

    Args:
        panels: metric to run (as in the legend) to curve.
        xlabels: metric to the label of its x axis.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows + (0.4 if title else 0)), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    for number, (metric, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        for name, (x, y) in curves.items():
            # A curve of one value would not be visible without a marker.
            axes.plot(x, y, label=name, marker="o" if len(x) < 30 else None, markersize=3, linewidth=1.2)
        axes.set(title=metric, xlabel=xlabels[metric])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return figure
