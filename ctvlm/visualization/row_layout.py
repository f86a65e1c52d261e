"""Positions of three planes in one row of a page."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctvlm.visualization.planes import is_flat

GAP_INCHES, TITLE_INCHES, EDGE_INCHES = 0.12, 0.26, 0.3
# Least size of a picture; a slab of two slices would be a line.
LEAST_INCHES = 0.12
# Widest stack of two planes, relative to the height of the row.
WIDEST = 2.2


@dataclass(frozen=True)
class RowLayout:
    """Boxes (left, bottom, width, height) of the axial, coronal and sagittal plane in inches, from the lower left.

    The planes have equal heights. For a slab, the coronal plane is above the sagittal plane, with equal widths. So the
    planes differ in scale; each keeps its ratio of mm.
    """

    boxes: tuple[tuple[float, float, float, float], ...]
    width: float
    height: float

    @classmethod
    def of(cls, shape: tuple[int, int, int], spacing: tuple[float, float, float], height: float) -> RowLayout:
        """Layout of a volume (D, H, W) with spacing in mm (z, y, x); ``height`` of the axial plane in inches."""
        z, y, x = (n * s for n, s in zip(shape, spacing))
        axial = max(height * x / y, LEAST_INCHES)
        if not is_flat(shape, spacing):
            widths = [axial, *(max(height * mm / z, LEAST_INCHES) for mm in (x, y))]
            lefts = [0.0, widths[0] + GAP_INCHES, widths[0] + widths[1] + 2 * GAP_INCHES]
            boxes = tuple((left, 0.0, width, height) for left, width in zip(lefts, widths))
            return cls(boxes, lefts[2] + widths[2], height + TITLE_INCHES)
        # The sagittal plane has its own title; a very thin picture has letters above and below.
        between = TITLE_INCHES + 0.3
        width = min((height - between) / (z / x + z / y), WIDEST * height)
        coronal, sagittal = (max(width * z / mm, LEAST_INCHES) for mm in (x, y))
        left = axial + 2 * GAP_INCHES
        boxes = (
            (0.0, 0.0, axial, height),
            (left, height - coronal, width, coronal),
            (left, max(height - coronal - between - sagittal, 0.0), width, sagittal),
        )
        return cls(boxes, left + width, height + TITLE_INCHES)

    def add_axes(self, figure: Figure, left: float, bottom: float) -> list[Axes]:
        """Axes of the planes of a row whose lower left corner is at ``left``, ``bottom`` (inches)."""
        across, up = figure.get_size_inches()
        return [
            figure.add_axes(((left + x) / across, (bottom + y) / up, width / across, height / up))
            for x, y, width, height in self.boxes
        ]
