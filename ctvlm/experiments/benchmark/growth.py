"""Cost of encoders against the number of tokens, with exponents of its growth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from ctvlm.experiments.benchmark.measure import Bench, Cost, compare
from ctvlm.experiments.benchmark.subjects import ModelSize, build_subject, compiled
from ctvlm.utils import CTVLMError
from ctvlm.visualization.curves import curves_page


def measure_sizes(
    subjects: Mapping[str, Mapping[str, Any] | None],
    sizes: Sequence[ModelSize],
    device: torch.device,
    batch: int,
    repeats: int,
    amp: bool,
    air: float = 0.0,
    also_compiled: bool = False,
) -> tuple[dict[int, list[Cost]], list[str]]:
    """Measure subjects at several sizes.

    Args:
        subjects: name to the backbone config; None for a peer.
        air: see Bench.of.
        also_compiled: measure each encoder that is not a peer a second time, with torch.compile.

    Returns:
        Costs by number of patches, and remarks on peers that cannot be measured at some size.

    Raises:
        CTVLMError: an encoder cannot be built, or a peer if there is only one size.
    """
    costs: dict[int, list[Cost]] = {}
    remarks: list[str] = []
    for size in sizes:
        built = []
        for name, backbone in subjects.items():
            try:
                built.append(build_subject(name, size, backbone))
            except CTVLMError as error:
                if backbone is not None or len(sizes) == 1:
                    raise
                remarks.append(str(error))
            else:
                if also_compiled and backbone is not None:
                    built.append(compiled(built[-1]))
        costs[math.prod(size.grid)] = compare(built, Bench.of(size, batch, device, amp, air), repeats)
    return costs, list(dict.fromkeys(remarks))


def exponents(costs: Mapping[int, Sequence[Cost]]) -> dict[str, dict[str, float]]:
    """Exponents of time and memory in the number of patches, by subject: 1 is linear, 2 is quadratic."""
    found = {}
    for name in dict.fromkeys(cost.name for row in costs.values() for cost in row):
        points = [(tokens, cost) for tokens, row in costs.items() for cost in row if cost.name == name]
        if len(points) > 1:
            found[name] = dict(
                time=fit_exponent([(tokens, cost.forward_s + cost.backward_s) for tokens, cost in points]),
                memory=fit_exponent([(tokens, cost.peak_bytes) for tokens, cost in points]),
            )
    return found


def fit_exponent(points: Sequence[tuple[float, float]]) -> float:
    """Slope of the least-squares line through the logarithms of at least two points."""
    x, y = ([math.log(value) for value in values] for values in zip(*points))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)


def growth_figure(costs: Mapping[int, Sequence[Cost]]) -> Figure:
    """Time and memory against the number of patches, on logarithmic axes."""
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {"seconds": {}, "peak memory, MiB": {}}
    for tokens, row in costs.items():
        for cost in row:
            values = (cost.forward_s + cost.backward_s, cost.peak_bytes / 2**20)
            for curves, value in zip(panels.values(), values):
                x, y = curves.setdefault(cost.name, ([], []))
                x.append(tokens)
                y.append(value)
    figure = curves_page(panels, dict.fromkeys(panels, "patches"), "one forward and backward pass")
    for axes in figure.axes:
        axes.set(xscale="log", yscale="log")
    return figure
