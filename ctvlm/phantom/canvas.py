"""Drawing surface in anatomical coordinates (mm).

All anatomy is drawn in *template* coordinates: those of one fixed adult, with the origin in the midline at the height
of the right diaphragmatic dome. A patient differs from the template by a scale, a rotation and a smooth warp, which
map voxels into the template. The warp moves x and y only, so z remains a vector of D numbers. Profiles along the body
are therefore evaluated per slice instead of per voxel, and a case is drawn in tens of milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ctvlm.phantom.patient import Patient

Box = tuple[slice, slice, slice]
# Coordinates or radii (x, y, z).
Point = Sequence[float] | np.ndarray
AIR = -1000.0


class Canvas:
    """HU, region and lesion arrays (D, H, W) of one scan, and methods to paint into them.

    Attributes:
        x, y: template coordinates (mm) of every voxel (D, H, W).
        z: template coordinate (mm) of every slice (D, 1, 1).
        edge: width (mm) over which borders are blended in the plane.
        dz: template mm per slice.
        cavity: signed distance (mm) to the wall of the body cavity, negative inside; set by ``draw_body``.
        pericardium: box of the heart and the distance to its surface; set by ``draw_heart`` if the heart is in view.
    """

    cavity: np.ndarray
    pericardium: tuple[Box, np.ndarray] | None = None

    def __init__(self, patient: Patient, shape: Sequence[int]) -> None:
        self.patient = patient
        depth, height, width = (int(n) for n in shape)
        self.shape = (depth, height, width)
        z0, z1 = patient.scan_z
        self.spacing = ((z1 - z0) / depth, patient.fov / height, patient.fov / width)
        phys_z = z0 + (np.arange(depth) + 0.5) * self.spacing[0]
        phys_y = patient.fov_center[0] + (np.arange(height) + 0.5) * self.spacing[1] - patient.fov / 2
        phys_x = patient.fov_center[1] + (np.arange(width) + 0.5) * self.spacing[2] - patient.fov / 2
        self.phys_y, self.phys_x = phys_y.astype(np.float32), phys_x.astype(np.float32)
        sz, sy, sx = patient.scale
        axes = (phys_x / sx, phys_y / sy, phys_z / sz)
        self._origin = np.array([a[0] for a in axes])
        self._density = np.array([1 / (a[1] - a[0]) for a in axes])
        self._counts = np.array([width, height, depth])
        self._plain = list(zip(self._origin.tolist(), self._density.tolist(), self._counts.tolist(), strict=True))
        self._stretch = np.array([1.2, 1.2, 1.0])
        tx, ty, tz = (a.astype(np.float32) for a in axes)
        self.z = tz[:, None, None]
        dx, dy = patient.warp.grid(tx, ty, tz)
        dx += tx
        dy += ty[:, None]
        self.x, self.y = dx, dy
        # Borders are blended over one in-plane voxel (partial volume), at least over 1.5 mm (blur of the scanner).
        self.edge = float(max(1.5, self.spacing[1] / sy, self.spacing[2] / sx))
        self.dz = float(self.spacing[0] / sz)
        self.hu = np.full(self.shape, AIR, np.float32)
        self.region = np.zeros(self.shape, np.uint8)
        self.lesion = np.zeros(self.shape, np.uint8)

    @property
    def full(self) -> Box:
        return (slice(None), slice(None), slice(None))

    def boxes(self, low: np.ndarray, high: np.ndarray) -> list[Box | None]:
        """Voxel boxes that cover template boxes ``low..high`` (N, 3; x, y, z in mm); None if outside the scan."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        center, half = (low + high) / 2, (high - low) / 2
        # Undo the warp at the centre, then add a margin for its rotation and stretch of the box.
        center[:, :2] -= self.patient.warp.at(center)
        reach = half * self._stretch
        reach[:, :2] += 0.2 * half[:, 1::-1] + 0.06 * half[:, 2:] + self.edge + 1.0
        reach[:, 2] += 0.02 * self.dz
        start = np.ceil((center - reach - self._origin) * self._density).astype(np.int64)
        stop = np.floor((center + reach - self._origin) * self._density).astype(np.int64) + 1
        np.clip(start, 0, self._counts, out=start)
        np.clip(stop, 0, self._counts, out=stop)
        return [
            (slice(z0, z1), slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 and z0 < z1 else None
            for (x0, y0, z0), (x1, y1, z1) in zip(start.tolist(), stop.tolist(), strict=True)
        ]

    def box(self, low: Point, high: Point) -> Box | None:
        """Voxel box that covers one template box (corners x, y, z in mm), or None if it is outside the scan.

        As ``boxes``, but with Python floats, which are ten times faster than arrays for a single box.
        """
        cx, cy, cz = ((float(a) + float(b)) / 2 for a, b in zip(low, high, strict=True))
        hx, hy, hz = ((float(b) - float(a)) / 2 for a, b in zip(low, high, strict=True))
        dx, dy = self.patient.warp.at_point(cx, cy, cz)
        more = 0.06 * hz + self.edge + 1.0
        spans = (
            (cz, hz + 0.02 * self.dz),
            (cy - dy, hy * 1.2 + 0.2 * hx + more),
            (cx - dx, hx * 1.2 + 0.2 * hy + more),
        )
        slices = []
        for axis, (c, h) in zip((2, 1, 0), spans, strict=True):
            origin, density, count = self._plain[axis]
            start = max(math.ceil((c - h - origin) * density), 0)
            stop = min(math.floor((c + h - origin) * density) + 1, count)
            if start >= stop:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1], slices[2]

    def index_of(self, points: np.ndarray) -> np.ndarray:
        """Fractional voxel indices (N, 3; x, y, z) of template points (N, 3)."""
        points = np.array(points, np.float64)
        points[:, :2] -= self.patient.warp.at(points)
        return (points - self._origin) * self._density

    def coords(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Template coordinates x, y (d, h, w) and z (d, 1, 1) of a box."""
        return self.x[box], self.y[box], self.z[box[0]]

    def paint(
        self,
        box: Box,
        distance: np.ndarray,
        hu: float | np.floating | np.ndarray | None,
        region: int | None = None,
        lesion: int | None = None,
        strength: float | np.ndarray = 1.0,
        inside: np.ndarray | None = None,
        edge: float | None = None,
        mark: float = 0.5,
    ) -> np.ndarray:
        """Paint a solid and return its blending weight.

        Args:
            distance: signed distance (mm) to the surface, negative inside.
            hu: value to blend in; None writes only the maps.
            region, lesion: ids to write into the maps where the weight exceeds ``mark``.
            strength: factor on the weight for HU, not for the maps.
            inside: boolean mask of the voxels that may change.
            edge: width (mm) of the blended border; default: that of the canvas.
        """
        weight = distance * (-1.0 / (edge or self.edge))
        weight += 0.5
        np.maximum(weight, np.float32(0), out=weight)
        np.minimum(weight, np.float32(1), out=weight)
        if inside is not None:
            weight *= inside
        if region is not None or lesion is not None:
            hit = weight > mark
            if region is not None:
                np.copyto(self.region[box], np.uint8(region), where=hit)
            if lesion is not None:
                np.copyto(self.lesion[box], np.uint8(lesion), where=hit)
        if hu is not None:
            if not (np.isscalar(strength) and strength == 1.0):
                weight = weight * strength
            target = self.hu[box]
            target += weight * (hu - target)
        return weight
