"""Draw one slice of a CT with outlined masks, orientation letters and slice number."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy import ndimage

from ctvlm.anatomy import RegionScheme
from ctvlm.volume.windows import resolve_window

PLANES = ("axial", "coronal", "sagittal")
# Plane to its axis in (z, y, x) and the letters at the left, right, bottom and top edge.
AXIS = {"axial": (0, "RLPA"), "coronal": (1, "RLIS"), "sagittal": (2, "APIS")}
INK, FAINT, LESION, COARSE = "#e8e8e8", "#8d939c", "#ff3b30", "#ffffff"
# Pictures smaller than this (inches) have the letters outside, because they would overlap inside.
THIN = 0.55
LETTER_POINTS = 8
_HALO: dict[str, Any] = dict(path_effects=[withStroke(linewidth=1.6, foreground="black")])


def slice_name(plane: str, index: int, count: int) -> str:
    """Title of a slice; slices are counted from 1 along the RAS+ axis."""
    return f"{plane} {index + 1} of {count}"


def region_colours(count: int) -> list[str]:
    """``count`` hex colours: different for consecutive regions, readable on black, and not the red of lesions."""
    hues = [0.06 + 0.86 * ((i * 0.381966) % 1) for i in range(count)]
    # Saturated blue is too dark for small letters.
    saturations = [0.45 if 0.58 < h < 0.8 else 0.55 + 0.25 * (i % 2) for i, h in enumerate(hues)]
    return [to_hex(tuple(hsv_to_rgb((h, s, 1)).tolist())) for h, s in zip(hues, saturations)]


def is_flat(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> bool:
    """Whether the CT is a slab whose coronal and sagittal planes fit above each other beside the axial plane."""
    return 1.6 * shape[0] * spacing[0] < shape[1] * spacing[1]


def shear_note(degrees: float) -> str:
    """Remark for a sheared input, otherwise ""."""
    return f"straightened: the file's grid is sheared by {degrees:.1f}°" if degrees else ""


def plane_of(array: np.ndarray, plane: str, index: int) -> np.ndarray:
    """A slice as an image: anterior or superior at the top, the patient's right (sagittal: anterior) on the left."""
    cut = np.take(array, index, axis=AXIS[plane][0])[::-1]
    return cut[:, ::-1]


def draw_plane(
    axes: Axes,
    results: dict,
    plane: str,
    index: int,
    window: str,
    scheme: RegionScheme,
    named: bool = False,
) -> None:
    """Draw one slice in one HU window.

    Args:
        axes: axes of a figure that has its final size.
        results: ``volume``, ``spacing`` and optionally ``region_map``, ``lesion_map`` and ``coarse_masks`` (dashed).
        named: write the name of each mask at its largest part.
    """
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
    figure = axes.figure
    assert isinstance(figure, Figure)
    cell = axes.get_position().size * figure.get_size_inches()
    scale = min(cell[0] / box[1], cell[1] / box[2])
    thin = (box[1] * scale < THIN, box[2] * scale < THIN)
    _draw_masks(axes, results, plane, index, spacing, scheme, named and not any(thin))
    _write_letters(axes, AXIS[plane][1], thin)
    # Leave space for a letter above the picture.
    name = slice_name(plane, index, results["volume"].shape[AXIS[plane][0]])
    axes.set_title(name, color=FAINT, fontsize=8, pad=LETTER_POINTS + 4 if thin[1] else 3)
    if plane == "axial":
        # Beside the picture, because it would cover the letters of a narrow picture.
        axes.set_ylabel(f"{window.replace('_', ' ')}  {centre:g} / {width:g} HU", color=INK, fontsize=7.5, labelpad=3)
    if not any(thin):
        _scale_bar(axes, box[1], box[2])


def _scale_bar(axes: Axes, width: float, height: float) -> None:
    """Scale bar of at most a third of the width (mm) in the lower right corner."""
    length = next((mm for mm in (50, 20, 10, 5) if mm < width / 3), 2)
    axes.plot([width * 0.97 - length, width * 0.97], [height * 0.96] * 2, color=INK, lw=1.5)
    at = (width * 0.97 - length / 2, height * 0.945)
    axes.text(*at, f"{length} mm", color=INK, fontsize=6.5, ha="center", va="bottom", **_HALO)


def _draw_masks(
    axes: Axes, results: dict, plane: str, index: int, spacing: list, scheme: RegionScheme, named: bool
) -> None:
    rows, cols = plane_of(results["volume"], plane, index).shape
    x = (np.arange(cols) + 0.5) * spacing[1]
    y = (np.arange(rows) + 0.5) * spacing[0]
    colours = region_colours(scheme.num_regions)
    masks = []
    for name, mask in (results.get("coarse_masks") or {}).items():
        masks.append((plane_of(mask, plane, index) > 0, COARSE, name.replace("_", " "), "dashed"))
    if results.get("region_map") is not None:
        regions = plane_of(results["region_map"], plane, index)
        for number in np.unique(regions[regions > 0]):
            masks.append((regions == number, colours[number - 1], scheme[int(number)].display_name, "solid"))
    for mask, colour, name, style in masks:
        _outline(axes, x, y, mask, colour, 0.9, style)
        if named and mask.sum() * spacing[0] * spacing[1] > 250:
            r, c = _inside(mask)
            axes.text(x[c], y[r], name, color=colour, fontsize=6.5, ha="center", va="center", **_HALO)
    if results.get("lesion_map") is not None:
        _outline(axes, x, y, plane_of(results["lesion_map"], plane, index) > 0, LESION, 1.4)


def _write_letters(axes: Axes, letters: str, thin: tuple[bool, bool]) -> None:
    """Write a letter at the middle of each edge, outside the picture along axes where it is ``thin`` (x, y)."""
    inside = (0.015, 0.985)
    x, y = (((0.0, 1.0) if is_thin else inside) for is_thin in thin)
    across, up = (
        (("right", "left") if thin[0] else ("left", "right")),
        (("top", "bottom") if thin[1] else ("bottom", "top")),
    )
    positions = (
        (x[0], 0.5, across[0], "center"),
        (x[1], 0.5, across[1], "center"),
        (0.5, y[0], "center", up[0]),
        (0.5, y[1], "center", up[1]),
    )
    for letter, (at_x, at_y, ha, va) in zip(letters, positions):
        axes.text(
            at_x,
            at_y,
            letter,
            transform=axes.transAxes,
            color=INK,
            fontsize=LETTER_POINTS,
            weight="bold",
            ha=ha,
            va=va,
            **_HALO,
        )


def _outline(
    axes: Axes, x: np.ndarray, y: np.ndarray, mask: np.ndarray, colour: str, width: float, style="solid"
) -> None:
    if mask.any() and not mask.all() and min(mask.shape) > 1:
        axes.contour(x, y, mask, levels=[0.5], colors=[colour], linewidths=width, linestyles=style)


def _inside(mask: np.ndarray) -> tuple[int, int]:
    """Row and column of the pixel deepest inside a mask, where its name is written."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(row), int(column)
