"""Measurements in a CT with masks, in ml, mm and HU. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Measurement:
    """Volume (ml) and mean HU of a structure, and the scan edges that cut it ("upper", "lower", "lateral")."""

    ml: float
    hu: float
    cut_by: tuple[str, ...]


def measure_labels(label_map: np.ndarray, hu: np.ndarray, spacing: Sequence[float]) -> dict[int, Measurement]:
    """Measure every label above 0 of a map (D, H, W) on the grid of ``hu``; ``spacing`` in mm (z, y, x)."""
    counts = np.bincount(label_map.ravel())
    ids = [int(i) for i in np.nonzero(counts)[0] if i > 0]
    if not ids:
        return {}
    means = ndimage.mean(hu, label_map, ids)
    boxes = ndimage.find_objects(label_map)
    ml = float(np.prod(spacing)) / 1000
    return {
        i: Measurement(float(counts[i]) * ml, float(mean), _cut_by(boxes[i - 1], label_map.shape))
        for i, mean in zip(ids, means)
    }


def _cut_by(box: tuple[slice, slice, slice], shape: tuple[int, ...]) -> tuple[str, ...]:
    edges = []
    if box[0].stop == shape[0]:
        edges.append("upper")
    if box[0].start == 0:
        edges.append("lower")
    if any(s.start == 0 or s.stop == n for s, n in zip(box[1:], shape[1:])):
        edges.append("lateral")
    return tuple(edges)


def contact_areas(label_map: np.ndarray, spacing: Sequence[float]) -> dict[tuple[int, int], float]:
    """Return the contact area in mm² of each pair of labels, by (smaller id, larger id)."""
    size = int(label_map.max()) + 1
    areas = np.zeros(size * size)
    for axis in range(3):
        face = float(np.prod(spacing)) / spacing[axis]
        a = label_map[tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))]
        b = label_map[tuple(slice(1, None) if i == axis else slice(None) for i in range(3))]
        touch = (a != b) & (a > 0) & (b > 0)
        first, second = a[touch].astype(np.int64), b[touch].astype(np.int64)
        pair = np.minimum(first, second) * size + np.maximum(first, second)
        areas += np.bincount(pair, minlength=size * size) * face
    return {(int(p) // size, int(p) % size): float(areas[p]) for p in np.nonzero(areas)[0]}


def tissue_shares(hu: np.ndarray) -> dict[str, float]:
    """Return fractions of all voxels: air below -500 HU, fat from -150 to -30, dense (bone, contrast) above 300."""
    flat = hu.ravel()
    return {
        "air": float((flat < -500).mean()),
        "fat": float(((flat >= -150) & (flat < -30)).mean()),
        "dense": float((flat > 300).mean()),
    }
