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
    region_colours,
    shear_note,
)
from ctvlm.visualization.row_layout import EDGE_INCHES, GAP_INCHES, RowLayout

BACKGROUND, WARN = "#101216", "#ffc857"
TEXT_INCHES, PLANE_INCHES, TOP_INCHES, LINE_INCHES = 5.2, 3.2, 0.42, 0.19
# Fewer lines of text are written below the title instead of in a column.
COLUMN_LINES = 8
# Widest row of planes; wider ones are drawn smaller.
WIDEST_INCHES = 14.0

# Text, colour, bold, indent.
Line = tuple[str, str, bool, str]


def montage(results: dict, windows: tuple[str, ...] = (), max_steps: int = 12) -> Figure:
    """Draw a loaded case with one row of planes per window, and its text beside or above them.

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
    lines = _text_lines(results, scheme, region_colours(scheme.num_regions), max_steps)
    layout = RowLayout.of(hu.shape, spacing, PLANE_INCHES)
    if layout.width > WIDEST_INCHES:
        layout = RowLayout.of(hu.shape, spacing, PLANE_INCHES * WIDEST_INCHES / layout.width)
    column = len(lines) >= COLUMN_LINES
    text_inches = TEXT_INCHES if column else 0.0
    width = max(EDGE_INCHES + layout.width + text_inches + GAP_INCHES, 7.0)
    head = [] if column else _wrapped(lines, width - 2 * EDGE_INCHES, 9.0)
    top = TOP_INCHES + LINE_INCHES * len(head)
    height = top + len(windows) * (layout.height + GAP_INCHES / 2)
    figure = Figure(figsize=(width, height), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    soft = next((row for row, window in enumerate(windows) if window not in ("lung", "bone")), 0)
    for row, window in enumerate(windows):
        bottom = height - top - (row + 1) * (layout.height + GAP_INCHES / 2) + GAP_INCHES / 2
        for axes, plane in zip(layout.add_axes(figure, EDGE_INCHES, bottom), PLANES):
            draw_plane(axes, results, plane, at[AXIS[plane][0]], window, scheme, named=row == soft)
    if column:
        left, tall = EDGE_INCHES + layout.width + GAP_INCHES, height - top - 0.1
        box = (left / width, 0.1 / height, (text_inches - 0.1) / width, tall / height)
        _write_column(figure.add_axes(box), lines, text_inches - 0.2, tall)
    for number, (text, colour, bold) in enumerate(head):
        y = 1 - (TOP_INCHES + number * LINE_INCHES) / height
        weight = "bold" if bold else "normal"
        figure.text(EDGE_INCHES / width, y, text, color=colour, fontsize=9, weight=weight, va="center")
    numbers = f"{' x '.join(map(str, hu.shape))} voxels of {' x '.join(f'{s:.2f}' for s in spacing)} mm (z, y, x)"
    title = f"{results['case_id']}    {numbers}    {results.get('split') or ''}"
    size = min(12.0, (width - 2 * EDGE_INCHES) * 72 / (0.66 * len(title)))
    figure.text(EDGE_INCHES / width, 1 - 0.2 / height, title, color=INK, fontsize=size, weight="bold", va="center")
    return figure


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


def _text_lines(results: dict, scheme: RegionScheme, colours: list[str], max_steps: int) -> list[Line]:
    """Paragraphs of the text of a case."""
    lines: list[Line] = []

    def add(text: str, colour: str = INK, bold: bool = False, indent: str = "") -> None:
        lines.append((text, colour, bold, indent))

    if note := shear_note(results.get("shear_degrees", 0.0)):
        add(note.capitalize(), WARN, bold=True)
        add("")
    report = results.get("report") or {}
    for name in ("impression", "findings"):
        if report.get(name):
            add(name.capitalize(), FAINT, bold=True)
            add(textwrap.shorten(report[name], 700, placeholder=" ..."))
            add("")
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
        add("")
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
        add("")
        add(
            f"Regions: {scheme.num_regions - len(unmarked)} of {scheme.num_regions} marked"
            + (f"; not marked: {', '.join(unmarked)}" if unmarked else ""),
            FAINT,
        )
    for name in coarse:
        covered = ", ".join(scheme[i].display_name for i in scheme.ids_of_class(name))
        add(f"Dashed: {name.replace('_', ' ')}, one mask for {covered}", FAINT)
    return lines


def _wrapped(lines: list[Line], inches: float, size: float) -> list[tuple[str, str, bool]]:
    """Lines that fit a width in a font size; the mean letter width of DejaVu Sans is 0.54 font sizes."""
    out = []
    for text, colour, bold, indent in lines:
        # matplotlib parses "$" as the start of a formula.
        parts = textwrap.wrap(
            text.replace("$", r"\$"), int(inches * 72 / (0.54 * size)), initial_indent=indent, subsequent_indent=indent
        )
        out += [(part, colour, bold) for part in parts or [""]]
    return out


def _write_column(axes: Axes, lines: list[Line], width: float, height: float) -> None:
    """Write the text in the largest font size that fits."""
    axes.set_axis_off()
    for size in (11.0, 10.0, 9.0, 8.0, 7.0, 6.0):
        wrapped, step = _wrapped(lines, width, size), 1.4 * size / 72 / height
        if len(wrapped) * step <= 1:
            break
    for number, (text, colour, bold) in enumerate(wrapped):
        weight = "bold" if bold else "normal"
        axes.text(
            0, 1 - number * step, text, color=colour, fontsize=size, weight=weight, va="top", transform=axes.transAxes
        )
