"""Pages of maps over a CT: one row per map, with three planes through its peak and a description."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from ctvlm.anatomy import MentionLexicon, RegionScheme
from ctvlm.visualization.content import content_windows, fitting_window
from ctvlm.visualization.montage import BACKGROUND, interesting_slices
from ctvlm.visualization.planes import (
    AXIS,
    FAINT,
    INK,
    PLANES,
    draw_plane,
    plane_of,
    region_colours,
    shear_note,
)
from ctvlm.visualization.row_layout import EDGE_INCHES, GAP_INCHES, TITLE_INCHES as ROW_TITLE, RowLayout
from ctvlm.volume import CTVolume, patches_to_grid, peak_mm

PLANE_INCHES, TEXT_INCHES, BAR_INCHES, TITLE_INCHES, LINE_INCHES = 3.0, 3.6, 0.75, 0.55, 0.22
WIDEST_INCHES = 12.0
WARNING_COLOUR = "#ffb454"


@dataclass(frozen=True)
class Overlay:
    """One row of a page.

    Attributes:
        text: description of the map, such as a reasoning step.
        patches: the map on the patch grid; integers are region ids, floats are a heat map.
        notes: lines below the text, in a fainter colour.
        floor: lowest value of the colour scale of a heat map.
    """

    text: str
    patches: CTVolume
    notes: Sequence[str] = ()
    floor: float = 0.0

    @property
    def is_labels(self) -> bool:
        return self.patches.array.dtype.kind in "iu"


def heat_colours() -> ListedColormap:
    """Colour map from dark red to yellow with increasing opacity, so that the CT is visible under low values."""
    colours = colormaps["inferno"](np.linspace(0.35, 0.95, 256))
    colours[:, 3] = np.linspace(0, 0.8, 256) ** 0.7
    return ListedColormap(colours, "heat")


def overlay_page(
    ct: CTVolume, overlays: Sequence[Overlay], title: str, scheme: RegionScheme, unit: str, remark: str = ""
) -> Figure:
    """Draw maps over a CT in radiological convention; each plane fills its row and has a scale bar.

    A heat map is shown through its peak, which is marked by a cross. The HU window fits the regions that the text
    mentions, otherwise the tissue at the peak. A region map is shown in the slices with most regions.

    Args:
        unit: unit of the heat maps, printed beside the colour bar.
        remark: a warning, printed on a separate line below the title.
    """
    layout = RowLayout.of(ct.shape, ct.spacing, PLANE_INCHES)
    if layout.width > WIDEST_INCHES:
        layout = RowLayout.of(ct.shape, ct.spacing, PLANE_INCHES * WIDEST_INCHES / layout.width)
    row_inches = layout.height + GAP_INCHES
    shown = content_windows(ct.array, ct.spacing)
    title_inches = TITLE_INCHES + (LINE_INCHES + 0.1 if remark else 0)
    heats = not all(overlay.is_labels for overlay in overlays)
    bar_inches = BAR_INCHES if heats else 0.0
    text_left = EDGE_INCHES + layout.width + GAP_INCHES + bar_inches
    size = (text_left + TEXT_INCHES, row_inches * len(overlays) + title_inches)
    figure = Figure(figsize=size, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)

    def axes_at(left: float, bottom: float, width: float, height: float) -> Axes:
        return figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))

    tall = layout.height - ROW_TITLE
    for row, overlay in enumerate(overlays):
        bottom = size[1] - title_inches - (row + 1) * row_inches + GAP_INCHES
        planes = layout.add_axes(figure, EDGE_INCHES, bottom)
        if overlay.is_labels:
            _draw_labels(planes, ct, overlay, scheme, shown)
        else:
            bar = axes_at(EDGE_INCHES + layout.width + GAP_INCHES, bottom, BAR_INCHES, tall)
            _draw_heat(planes, bar, ct, overlay, scheme, unit, shown)
        _write(axes_at(text_left, bottom, TEXT_INCHES - 0.1, tall), overlay, tall)
    shape = " x ".join(map(str, ct.shape))
    spacing = " x ".join(f"{s:.2f}" for s in ct.spacing)
    y = 1 - LINE_INCHES / size[1]
    figure.text(0.3 / size[0], y, title, color=INK, fontsize=12, weight="bold", va="center")
    line = f"{shape} voxels of {spacing} mm (z, y, x); the patient's right is on the left"
    line = "; ".join(filter(None, (line, shear_note(ct.shear_degrees))))
    figure.text(0.3 / size[0], y - LINE_INCHES / size[1], line, color=FAINT, fontsize=8, va="center")
    if remark:
        remark_y = y - 2 * LINE_INCHES / size[1]
        figure.text(0.3 / size[0], remark_y, remark, color=WARNING_COLOUR, fontsize=8, va="center")
    return figure


def _draw_heat(
    planes: list[Axes],
    bar_axes: Axes,
    ct: CTVolume,
    overlay: Overlay,
    scheme: RegionScheme,
    unit: str,
    shown: tuple[str, ...],
) -> None:
    peak = np.linalg.inv(ct.affine) @ (*peak_mm(overlay.patches), 1)
    z, y, x = (int(np.clip(round(i), 0, n - 1)) for i, n in zip(peak[2::-1], ct.shape))
    at = (z, y, x)
    top = max(float(overlay.patches.array.max()), overlay.floor * 1.01 + 1e-9)
    colours, norm = heat_colours(), Normalize(overlay.floor, top)
    window = fitting_window(window_for(overlay.text, scheme) or window_at(ct, at), shown)
    results = dict(volume=ct.array, spacing=ct.spacing)
    for axes, plane in zip(planes, PLANES):
        draw_plane(axes, results, plane, at[AXIS[plane][0]], window, scheme)
        heat = plane_of(_cut(overlay.patches, ct, plane, at), plane, 0)
        box = axes.images[0].get_extent()
        axes.imshow(heat, cmap=colours, norm=norm, extent=box, interpolation="bilinear", aspect="equal")
        _cross(axes, ct, plane, at)
    bar_axes.set_axis_off()
    inset = bar_axes.inset_axes((0.12, 0.12, 0.2, 0.76))
    bar = bar_axes.figure.colorbar(ScalarMappable(norm, colours), cax=inset)
    inset.set_facecolor("#5a5d63")  # mid grey below the transparent end, like a CT
    inset.tick_params(colors=FAINT, labelsize=6.5, length=2)
    bar.set_label(unit, color=FAINT, fontsize=7)
    bar.outline.set_visible(False)


def _draw_labels(
    planes: list[Axes], ct: CTVolume, overlay: Overlay, scheme: RegionScheme, shown: tuple[str, ...]
) -> None:
    regions = patches_to_grid(overlay.patches, ct.affine, ct.shape, mode="nearest").array
    results = dict(volume=ct.array, spacing=ct.spacing, region_map=regions)
    at = interesting_slices(results)
    colours = region_colours(scheme.num_regions)
    faint = ListedColormap(["none", *(f"{colour}59" for colour in colours)])
    window = fitting_window("soft_tissue", shown)
    for axes, plane in zip(planes, PLANES):
        draw_plane(axes, results, plane, at[AXIS[plane][0]], window, scheme, named=True)
        ids = plane_of(regions, plane, at[AXIS[plane][0]])
        axes.imshow(
            ids,
            cmap=faint,
            vmin=0,
            vmax=scheme.num_regions,
            extent=axes.images[0].get_extent(),
            interpolation="nearest",
            aspect="equal",
        )


def window_for(text: str, scheme: RegionScheme) -> str | None:
    """Name of the HU window for the regions that a text mentions; None if it mentions no region."""
    ranges = [hu for i in MentionLexicon(scheme).regions_in(text) if (hu := scheme[i].hu)]
    return _window(float(np.mean(ranges[0]))) if ranges else None


def window_at(ct: CTVolume, at: tuple[int, int, int], radius_mm: float = 12.0) -> str:
    """Name of the HU window for the tissue around a voxel: lung, bone, or soft tissue."""
    radius = [max(1, round(radius_mm / s)) for s in ct.spacing]
    box = tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(at, radius))
    return _window(float(np.median(ct.array[box])))


def _window(hu: float) -> str:
    return "lung" if hu < -400 else "bone" if hu > 400 else "soft_tissue"


def _cut(patches: CTVolume, ct: CTVolume, plane: str, at: tuple[int, int, int]) -> np.ndarray:
    """The map on one slice of the CT grid; the axis across the plane has length 1."""
    axis = AXIS[plane][0]
    first, shape = [0, 0, 0], list(ct.shape)
    first[axis], shape[axis] = at[axis], 1
    affine = ct.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(first[::-1], dtype=float)
    return patches_to_grid(patches, affine, (shape[0], shape[1], shape[2])).array


def _cross(axes: Axes, ct: CTVolume, plane: str, at: tuple[int, int, int]) -> None:
    """Mark a voxel with a cross."""
    row_axis, col_axis = (axis for axis in range(3) if axis != AXIS[plane][0])
    # The first row is the top and the first column the patient's right, so both indices are reversed.
    x = (ct.shape[col_axis] - at[col_axis] - 0.5) * ct.spacing[col_axis]
    y = (ct.shape[row_axis] - at[row_axis] - 0.5) * ct.spacing[row_axis]
    axes.plot(x, y, marker="+", color="#7fe0ff", markersize=9, markeredgewidth=0.9)


def _write(axes: Axes, overlay: Overlay, row_inches: float) -> None:
    """Write the text beside a row in the largest font size that fits."""
    axes.set_axis_off()
    for size in (11.0, 10.0, 9.0, 8.0, 7.0, 6.0):
        # The mean letter width of DejaVu Sans is 0.56 font sizes; the line spacing is 1.35 font sizes.
        columns = int((TEXT_INCHES - 0.2) * 72 / (0.56 * size))
        lines = [(part, INK) for part in textwrap.wrap(overlay.text, columns)] + [("", FAINT)]
        lines += [(part, FAINT) for note in overlay.notes for part in textwrap.wrap(note, columns)]
        step = 1.35 * size / 72 / row_inches
        if len(lines) * step < 0.97:
            break
    for number, (text, colour) in enumerate(lines):
        y = 0.98 - number * step
        axes.text(0, y, text.replace("$", r"\$"), color=colour, fontsize=size, va="top", transform=axes.transAxes)
