"""A case on one page: three planes in several windows, regions outlined and named, the text beside it."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure

from ctvlm.anatomy import RegionScheme
from ctvlm.volume.windows import resolve_window

PLANES = ("axial", "coronal", "sagittal")
# Plane to its axis in (z, y, x), and the letters at its left, right, bottom and top edge.
AXIS = {"axial": (0, "RLPA"), "coronal": (1, "RLIS"), "sagittal": (2, "APIS")}
BACKGROUND, INK, FAINT, LESION = "#101216", "#e8e8e8", "#8d939c", "#ff3b30"
TEXT_WIDTH = 78


def region_colours(count: int) -> list[str]:
    """``count`` colours (hex), far apart in the list's neighbours, all readable on black and none a lesion's red."""
    hues = [0.06 + 0.86 * ((i * 0.381966) % 1) for i in range(count)]
    # Saturated blue is too dark for small letters.
    return [to_hex(hsv_to_rgb((h, 0.45 if 0.58 < h < 0.8 else 0.55 + 0.25 * (i % 2), 1))) for i, h in enumerate(hues)]


def montage(results: dict, windows: tuple[str, ...] = ("lung", "soft_tissue", "bone"), max_steps: int = 12) -> Figure:
    """Draw a loaded case (what LoadCT or LoadStore returns): a row per window, a column per plane.

    The slices go through the lesions where there are any, else through most of the regions, else the middle.
    Radiological convention: the patient's right is on the left of the page; outlines: regions in colour, lesions red.
    """
    scheme = RegionScheme.load(results.get("scheme", "thorax_abdomen_20"))
    hu, spacing = results["volume"], results["spacing"]
    at = interesting_slices(results)
    extents = [n * s for n, s in zip(hu.shape, spacing)]
    height_mm = [extents[1], extents[0], extents[0]]
    width_mm = [extents[2], extents[2], extents[1]]
    # Each picture as large as its plane in mm, so that all share one scale.
    row_inches = 3.4
    scale = row_inches / max(height_mm)
    columns = [max(w * scale, 1.2) for w in width_mm]
    text_inches = 5.6
    size = (sum(columns) + text_inches + 0.6, row_inches * len(windows) + 0.7)
    figure = Figure(figsize=size, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(windows),
        4,
        width_ratios=[*columns, text_inches],
        left=0.012,
        right=0.995,
        top=1 - 0.55 / size[1],
        bottom=0.12 / size[1],
        wspace=0.03,
        hspace=0.03,
    )
    colours = region_colours(scheme.num_regions)
    for row, window in enumerate(windows):
        for column, plane in enumerate(PLANES):
            axes = figure.add_subplot(grid[row, column])
            draw_plane(
                axes, results, plane, at[AXIS[plane][0]], window, colours, scheme, named=row == len(windows) // 2
            )
            if row == 0:
                axis = AXIS[plane][0]
                axes.set_title(f"{plane}, slice {at[axis]} of {hu.shape[axis]}", color=FAINT, fontsize=9, pad=4)
    _write_text(figure.add_subplot(grid[:, 3]), results, scheme, colours, max_steps)
    title = f"{results['case_id']}    {' x '.join(map(str, hu.shape))} voxels of "
    title += f"{' x '.join(f'{s:.2f}' for s in spacing)} mm (z, y, x)    {results.get('split') or ''}"
    figure.text(0.012, 1 - 0.2 / size[1], title, color=INK, fontsize=12, weight="bold", va="center")
    return figure


def interesting_slices(results: dict) -> tuple[int, int, int]:
    """Index along z, y, x: through the largest lesion, else the slices that cut the most regions, else the middle."""
    lesion, regions = results.get("lesion_map"), results.get("region_map")
    if lesion is not None and lesion.any():
        largest = np.bincount(lesion.ravel())[1:].argmax() + 1
        where = np.argwhere(lesion == largest)
        centre = np.median(where, axis=0)
        # A voxel of the lesion itself: the middle of a ring is none.
        return tuple(int(i) for i in where[np.abs(where - centre).sum(axis=1).argmin()])
    if regions is not None and regions.any():
        out = []
        for axis in range(3):
            lines = np.moveaxis(regions, axis, 0)[:, ::2, ::2].reshape(regions.shape[axis], -1)
            counts = [len(np.unique(line)) + 1e-6 * np.count_nonzero(line) for line in lines]
            out.append(int(np.argmax(counts)))
        return tuple(out)
    return tuple(n // 2 for n in results["volume"].shape)


def plane_of(array: np.ndarray, plane: str, index: int) -> np.ndarray:
    """A slice as a picture whose first row is the top: anterior or superior up, the patient's right on the left."""
    cut = np.take(array, index, axis=AXIS[plane][0])[::-1]
    # x grows to the patient's right, which belongs on the left; in sagittal planes y grows to the front, drawn left.
    return cut[:, ::-1]


def draw_plane(axes, results: dict, plane: str, index: int, window: str, colours, scheme, named: bool) -> None:
    """One slice in one window with outlines; ``named`` writes each region's name at its largest part."""
    centre, width = resolve_window(window)
    picture = plane_of(results["volume"], plane, index)
    spacing = [s for axis, s in enumerate(results["spacing"]) if axis != AXIS[plane][0]]
    rows, cols = picture.shape
    box = (0, cols * spacing[1], rows * spacing[0], 0)
    axes.imshow(
        picture,
        cmap="gray",
        vmin=centre - width / 2,
        vmax=centre + width / 2,
        extent=box,
        interpolation="bilinear",
        aspect="equal",
    )
    axes.set(xticks=[], yticks=[], facecolor="black")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_anchor("N")
    x = (np.arange(cols) + 0.5) * spacing[1]
    y = (np.arange(rows) + 0.5) * spacing[0]
    if results.get("region_map") is not None:
        regions = plane_of(results["region_map"], plane, index)
        for number in np.unique(regions[regions > 0]):
            mask = regions == number
            _outline(axes, x, y, mask, colours[number - 1], 0.9)
            if named and mask.sum() * spacing[0] * spacing[1] > 250:
                r, c = _inside(mask)
                label = scheme[int(number)].spoken
                axes.text(x[c], y[r], label, color=colours[number - 1], fontsize=6.5, ha="center", va="center", **_HALO)
    if results.get("lesion_map") is not None:
        _outline(axes, x, y, plane_of(results["lesion_map"], plane, index) > 0, LESION, 1.4)
    left, right, bottom, top = AXIS[plane][1]
    for letter, place in ((left, (0.015, 0.5)), (right, (0.985, 0.5)), (bottom, (0.5, 0.015)), (top, (0.5, 0.985))):
        across = {0.015: "left", 0.985: "right"}.get(place[0], "center")
        up = {0.015: "bottom", 0.985: "top"}.get(place[1], "center")
        axes.text(
            *place, letter, transform=axes.transAxes, color=INK, fontsize=8, weight="bold", ha=across, va=up, **_HALO
        )
    if plane == "axial":
        label = f"{window.replace('_', ' ')}  {centre:g} / {width:g} HU"
        axes.text(0.02, 0.03, label, transform=axes.transAxes, color=INK, fontsize=7.5, va="bottom", **_HALO)
        axes.plot([box[1] * 0.97 - 50, box[1] * 0.97], [box[2] * 0.96] * 2, color=INK, lw=1.5)
        axes.text(box[1] * 0.97 - 25, box[2] * 0.945, "50 mm", color=INK, fontsize=6, ha="center", va="bottom", **_HALO)


def _halo() -> dict:
    from matplotlib.patheffects import withStroke

    return dict(path_effects=[withStroke(linewidth=1.6, foreground="black")])


_HALO = _halo()


def _outline(axes, x: np.ndarray, y: np.ndarray, mask: np.ndarray, colour: str, width: float) -> None:
    if mask.any() and not mask.all() and min(mask.shape) > 1:
        axes.contour(x, y, mask, levels=[0.5], colors=[colour], linewidths=width)


def _inside(mask: np.ndarray) -> tuple[int, int]:
    """The voxel deepest inside a mask, where a name does the least harm."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return np.unravel_index(int(depth.argmax()), mask.shape)


def _write_text(axes, results: dict, scheme: RegionScheme, colours: list[str], max_steps: int) -> None:
    axes.set_axis_off()
    lines: list[tuple[str, str, bool]] = []

    def add(text: str, colour: str = INK, bold: bool = False, indent: str = "") -> None:
        # "$" would start a formula.
        wrapped = textwrap.wrap(text.replace("$", r"\$"), TEXT_WIDTH, initial_indent=indent, subsequent_indent=indent)
        lines.extend((part, colour, bold) for part in wrapped)

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
            words = ", ".join(scheme[i].spoken for i in ids)
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
    if regions is None:
        add("no region map", FAINT)
    else:
        absent = [r.spoken for r in scheme.regions if not (regions == r.id).any()]
        lines.append(("", INK, False))
        add(
            f"Regions: {scheme.num_regions - len(absent)} of {scheme.num_regions}"
            + (f"; absent: {', '.join(absent)}" if absent else ""),
            FAINT,
        )
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
