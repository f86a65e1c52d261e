"""A drawing surface in anatomical millimetres.

Everything is drawn in *template* coordinates: one fixed adult whose origin lies in the midline at the height
of the right diaphragmatic dome. A patient differs by scale, rotation and a smooth warp that map voxels into
the template. The warp moves x and y only, so that z stays a vector of D numbers: profiles along the body are
then looked up per slice instead of per voxel, which is what keeps a case in the tens of milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ctvlm.phantom.patient import Patient

Box = tuple[slice, slice, slice]
AIR = -1000.0


class Canvas:
    """HU, region and lesion arrays (D, H, W) of one scan, and the tools to paint into them.

    ``x`` and ``y`` are the template coordinates (mm) of every voxel, ``z`` those of every slice (D, 1, 1).
    """

    def __init__(self, patient: Patient, shape: Sequence[int]) -> None:
        self.patient = patient
        self.shape = tuple(int(n) for n in shape)
        depth, height, width = self.shape
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
        # One in-plane voxel of blending at each border stands in for partial volume; 1.5 mm for the scanner's blur.
        self.edge = float(max(1.5, self.spacing[1] / sy, self.spacing[2] / sx))
        self.dz = float(self.spacing[0] / sz)
        self.hu = np.full(self.shape, AIR, np.float32)
        self.region = np.zeros(self.shape, np.uint8)
        self.lesion = np.zeros(self.shape, np.uint8)

    @property
    def full(self) -> Box:
        return (slice(None), slice(None), slice(None))

    def boxes(self, low: np.ndarray, high: np.ndarray) -> list[Box | None]:
        """Voxel boxes that cover template boxes ``low..high`` (N, 3), columns x, y, z in mm; None: outside the scan."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        center, half = (low + high) / 2, (high - low) / 2
        # Undo the warp at the centre, then allow for how much it can turn and stretch the box.
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

    def box(self, low: Sequence[float], high: Sequence[float]) -> Box | None:
        """The voxel box that covers one template box (x, y, z corners in mm), or None outside the scan.

        The same as ``boxes`` in plain floats: for one box, arrays of three numbers cost ten times the arithmetic.
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
        return tuple(slices)

    def index_of(self, points: np.ndarray) -> np.ndarray:
        """Voxel indices (N, 3), fractional, columns x, y, z, of template points."""
        points = np.array(points, np.float64)
        points[:, :2] -= self.patient.warp.at(points)
        return (points - self._origin) * self._density

    def coords(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Template x, y (d, h, w) and z (d, 1, 1) of a box."""
        return self.x[box], self.y[box], self.z[box[0]]

    def paint(
        self,
        box: Box,
        distance: np.ndarray,
        hu: float | np.ndarray | None,
        region: int | None = None,
        lesion: int | None = None,
        strength: float | np.ndarray = 1.0,
        inside: np.ndarray | None = None,
        edge: float | None = None,
        mark: float = 0.5,
    ) -> np.ndarray:
        """Blend ``hu`` in where ``distance`` (mm, negative inside) says so; return the blending weight.

        ``inside`` (bool) confines the paint, ``strength`` thins it, ``mark`` is the weight (before thinning) from
        which a voxel belongs to the region or lesion. Without ``hu`` only the maps are written.
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
