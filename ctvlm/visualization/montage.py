"""One-page picture of a case: three planes in several windows, outlined regions, and the text of the case."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctvlm.anatomy import RegionScheme, scheme_of
from ctvlm.visualization.content import content_windows
from ctvlm.visualization.planes import (
    AXIS,
    FAINT,
    INK,
    PLANES,
    draw_plane,
    is_flat,
    region_colours,
    shear_note,
)

BACKGROUND, WARN = "#101216", "#ffc857"
TEXT_WIDTH = 78
ROW_INCHES, TEXT_INCHES = 3.4, 5.6


def montage(results: dict, windows: tuple[str, ...] = (), max_steps: int = 12) -> Figure:
    """Draw a loaded case with one row per window and one column per plane.

    The slices are those of ``interesting_slices``. The patient's right is on the left of the page (radiological
    convention). Outlines are coloured for regions, dashed white for coarse masks, and red for lesions.

    Args:
        results: a case as returned by LoadCT or LoadStore.
        windows: names of HU windows; default: chosen from the content of the CT (``content_windows``).
        max_steps: maximum number of reasoning steps to print.
    """
    scheme = scheme_of(results)
    hu, spacing = results["volume"], results["spacing"]
    windows = windows or content_windows(hu, spacing)
    at = interesting_slices(results)
    flat = is_flat(hu.shape, spacing)
    z, y, x = (n * s for n, s in zip(hu.shape, spacing))
    # All planes have the same scale in mm; for a slab, two planes share a column.
    scale = ROW_INCHES / (y if flat else max(y, z))
    columns = [max(mm * scale, 1.2) for mm in ((x, max(x, y)) if flat else (x, x, y))]
    size = (sum(columns) + TEXT_INCHES + 0.6, (ROW_INCHES + 0.1) * len(windows) + 0.7)
    figure = Figure(figsize=size, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(windows),
        len(columns) + 1,
        width_ratios=[*columns, TEXT_INCHES],
        left=0.3 / size[0],
        right=0.995,
        top=1 - 0.6 / size[1],
        bottom=0.12 / size[1],
        wspace=0.03,
        hspace=0.03,
    )
    soft = next((row for row, window in enumerate(windows) if window not in ("lung", "bone")), 0)
    for row, window in enumerate(windows):
        cells = [grid[row, column] for column in range(len(columns))]
        if flat:
            stack = cells[1].subgridspec(2, 1, hspace=0.15)
            cells = [cells[0], stack[0], stack[1]]
        for cell, plane in zip(cells, PLANES):
            titled = row == 0 or (flat and plane == "sagittal")
            axes = figure.add_subplot(cell)
            draw_plane(axes, results, plane, at[AXIS[plane][0]], window, scheme, named=row == soft, titled=titled)
            if flat and plane != "axial":
                widen(axes, max(x, y))
    colours = region_colours(scheme.num_regions)
    _write_text(figure.add_subplot(grid[:, -1]), results, scheme, colours, max_steps)
    title = f"{results['case_id']}    {' x '.join(map(str, hu.shape))} voxels of "
    title += f"{' x '.join(f'{s:.2f}' for s in spacing)} mm (z, y, x)    {results.get('split') or ''}"
    figure.text(0.3 / size[0], 1 - 0.2 / size[1], title, color=INK, fontsize=12, weight="bold", va="center")
    return figure


def widen(axes: Axes, width_mm: float) -> None:
    """Extend the x range to ``width_mm``, so that stacked pictures have the same scale."""
    left, right = axes.get_xlim()
    axes.set_xlim((left + right - width_mm) / 2, (left + right + width_mm) / 2)


def interesting_slices(results: dict) -> tuple[int, int, int]:
    """Slice index along z, y, x: of the largest lesion, else of the slices with most regions, else the middle."""
    lesion, regions = results.get("lesion_map"), results.get("region_map")
    if lesion is not None and lesion.any():
        largest = np.bincount(lesion.ravel())[1:].argmax() + 1
        where = np.argwhere(lesion == largest)
        centre = np.median(where, axis=0)
        # A voxel of the lesion; the centre of a ring would be outside.
        z, y, x = where[np.abs(where - centre).sum(axis=1).argmin()].tolist()
        return z, y, x
    if regions is not None and regions.any():
        out = []
        for axis in range(3):
            lines = np.moveaxis(regions, axis, 0)[:, ::2, ::2].reshape(regions.shape[axis], -1)
            counts = [len(np.unique(line)) + 1e-6 * np.count_nonzero(line) for line in lines]
            out.append(int(np.argmax(counts)))
        return out[0], out[1], out[2]
    depth, height, width = results["volume"].shape
    return depth // 2, height // 2, width // 2


def _write_text(axes: Axes, results: dict, scheme: RegionScheme, colours: list[str], max_steps: int) -> None:
    axes.set_axis_off()
    lines: list[tuple[str, str, bool]] = []

    def add(text: str, colour: str = INK, bold: bool = False, indent: str = "") -> None:
        # matplotlib parses "$" as the start of a formula.
        wrapped = textwrap.wrap(text.replace("$", r"\$"), TEXT_WIDTH, initial_indent=indent, subsequent_indent=indent)
        lines.extend((part, colour, bold) for part in wrapped)

    if note := shear_note(results.get("shear_degrees", 0.0)):
        add(note.capitalize(), WARN, bold=True)
        lines.append(("", INK, False))
    report = results.get("report") or {}
    for name in ("impression", "findings"):
        if report.get(name):
            add(name.capitalize(), FAINT, bold=True)
            add(textwrap.shorten(report[name], 700, placeholder=" ..."))
            lines.append(("", INK, False))
    steps = results.get("cot") or []
    if steps:
        add(f"Reasoning, {len(steps)} steps" + (f" ({max_steps} shown)" if len(steps) > max_steps else ""), FAINT, True)
    for number, step in enumerate(steps[:max_steps], start=1):
        add(f"{number}. {textwrap.shorten(step['text'], 300, placeholder=' ...')}")
        if step.get("regions"):
            ids = [scheme.id_of(name) for name in step["regions"]]
            words = ", ".join(scheme[i].display_name for i in ids)
            lesion = f"   lesion {step['lesion']}" if step.get("lesion") is not None else ""
            add(words + lesion, colours[ids[0] - 1], indent="    ")
    labels = results.get("labels") or {}
    positive = [name for name, value in labels.items() if value == 1]
    if labels:
        lines.append(("", INK, False))
        add(f"Labels: {', '.join(positive) or 'none positive'}  ({len(positive)} of {len(labels)})", FAINT)
    if not steps and not report:
        add("no text", FAINT)
    regions = results.get("region_map")
    coarse = results.get("coarse_masks") or {}
    if regions is None:
        add("no region map" + ("; only masks of several regions" if coarse else ""), FAINT)
    else:
        # An organ without a mask may still be in the scan.
        unmarked = [r.display_name for r in scheme.regions if not (regions == r.id).any()]
        lines.append(("", INK, False))
        add(
            f"Regions: {scheme.num_regions - len(unmarked)} of {scheme.num_regions} marked"
            + (f"; not marked: {', '.join(unmarked)}" if unmarked else ""),
            FAINT,
        )
    for name in coarse:
        covered = ", ".join(scheme[i].display_name for i in scheme.ids_of_class(name))
        add(f"Dashed: {name.replace('_', ' ')}, one mask for {covered}", FAINT)
    height = axes.get_window_extent().height / axes.figure.dpi
    step = min(0.165 / height, 1 / max(len(lines), 1))
    size = min(8.5, step * height * 72 * 0.72)
    for number, (text, colour, bold) in enumerate(lines):
        weight = "bold" if bold else "normal"
        axes.text(
            0.02,
            1 - number * step,
            text,
            color=colour,
            fontsize=size,
            weight=weight,
            va="top",
            family="DejaVu Sans",
            transform=axes.transAxes,
        )
