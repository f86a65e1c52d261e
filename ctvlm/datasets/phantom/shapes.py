"""Signed distances (mm, negative inside) of simple solids, and how to paint them on a canvas.

Ellipsoid distances are first-order approximations, exact on the surface: enough for soft borders and for
constructive geometry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctvlm.datasets.phantom.canvas import Box, Canvas


def ellipsoid(x, y, z, center: Sequence[float], radii: Sequence[float], turn: float = 0.0) -> np.ndarray:
    """Distance to an ellipsoid, turned by ``turn`` radians about z."""
    u, v, w = x - center[0], y - center[1], z - center[2]
    if turn:
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        u, v = c * u + s * v, c * v - s * u
    u = u * np.float32(1 / radii[0])
    v = v * np.float32(1 / radii[1])
    w = w * np.float32(1 / radii[2])
    rho = np.sqrt(u * u + v * v + w * w)
    return (rho - 1.0) * np.float32(min(radii))


def capsule(x, y, z, a: Sequence[float], b: Sequence[float], ra: float, rb: float) -> np.ndarray:
    """Distance to a segment ``a..b`` whose radius goes from ``ra`` to ``rb``."""
    ab = np.subtract(b, a).astype(np.float32)
    u, v, w = x - np.float32(a[0]), y - np.float32(a[1]), z - np.float32(a[2])
    length2 = max(float(ab @ ab), 1e-6)
    h = (u * ab[0] + v * ab[1] + w * ab[2]) * np.float32(1 / length2)
    np.clip(h, 0.0, 1.0, out=h)
    u, v, w = u - h * ab[0], v - h * ab[1], w - h * ab[2]
    return np.sqrt(u * u + v * v + w * w) - (np.float32(ra) + h * np.float32(rb - ra))


def superellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Gauge of a rounded rectangle: 1 on the border of |u|, |v| <= 1, between an ellipse and a square."""
    u = u * u
    v = v * v
    total = u + v
    u *= u
    v *= v
    u += v
    np.sqrt(u, out=u)
    total += u
    total *= 0.5
    return np.sqrt(total, out=total)


def draw_ellipsoid(canvas: Canvas, center, radii, hu, region=None, lesion=None, turn=0.0, inside=None, **kwargs):
    """Paint an ellipsoid. One thinner than a voxel is widened and thinned by the same factor (partial volume)."""
    least = (0.5 * canvas.edge, 0.5 * canvas.edge, 0.55 * canvas.dz)
    wide = [max(r, m) for r, m in zip(radii, least, strict=True)]
    strength = float(np.prod(np.divide(radii, wide))) ** 0.7  # below 1: a real scan also resamples with overlap
    reach = np.array([max(wide[:2])] * 2 + [wide[2]]) if turn else np.array(wide)
    box = canvas.box(np.subtract(center, reach), np.add(center, reach))
    if box is None:
        return None
    distance = ellipsoid(*canvas.coords(box), center, wide, turn)
    inside = inside(box) if callable(inside) else inside
    canvas.paint(box, distance, hu, region, lesion, strength=strength, inside=inside, **kwargs)
    return box


def tube_boxes(canvas: Canvas, points: np.ndarray, radii: np.ndarray) -> list[Box | None]:
    """Boxes of the segments between consecutive ``points`` (N, 3)."""
    reach = np.maximum(radii[:-1], radii[1:])[:, None]
    low = np.minimum(points[:-1], points[1:]) - reach
    high = np.maximum(points[:-1], points[1:]) + reach
    return canvas.boxes(low, high)


def draw_tube(canvas: Canvas, points, radii, hu, region=None, lesion=None, inside=None, **kwargs) -> None:
    """Paint a tube through ``points`` (N, 3) of radius ``radii`` (scalar or N)."""
    points = np.asarray(points, np.float32)
    radii = np.broadcast_to(np.asarray(radii, np.float32), len(points))
    for i, box in enumerate(tube_boxes(canvas, points, radii)):
        if box is None:
            continue
        distance = capsule(*canvas.coords(box), points[i], points[i + 1], float(radii[i]), float(radii[i + 1]))
        where = inside(box) if callable(inside) else None
        canvas.paint(box, distance, hu, region, lesion, inside=where, **kwargs)


def draw_segments(canvas: Canvas, starts, ends, radii, hu, inside=None, lesion=None, **kwargs) -> None:
    """Paint many thin separate segments (N, 3) to (N, 3); those thinner than a voxel fade instead of vanishing."""
    starts, ends = np.asarray(starts, np.float32), np.asarray(ends, np.float32)
    radii = np.broadcast_to(np.asarray(radii, np.float32), len(starts))
    wide = np.maximum(radii, 0.5 * canvas.edge)
    strength = (radii / wide) ** 1.4
    low, high = np.minimum(starts, ends) - wide[:, None], np.maximum(starts, ends) + wide[:, None]
    for i, box in enumerate(canvas.boxes(low, high)):
        if box is None:
            continue
        distance = capsule(*canvas.coords(box), starts[i], ends[i], float(wide[i]), float(wide[i]))
        where = inside(box) if callable(inside) else None
        canvas.paint(box, distance, hu, lesion=lesion, strength=float(strength[i]), inside=where, **kwargs)


def smooth_noise(x, y, z, rng: np.random.Generator, wavelength: float, waves: int = 5) -> np.ndarray:
    """A smooth random field of about unit variance: a sum of plane waves, so that it does not depend on the grid."""
    total = None
    for _ in range(waves):
        direction = rng.normal(size=3)
        k = direction / np.linalg.norm(direction) * (2 * np.pi / (wavelength * rng.uniform(0.7, 1.5)))
        phase = x * np.float32(k[0]) + y * np.float32(k[1]) + (z * np.float32(k[2]) + np.float32(rng.uniform(0, 6.283)))
        wave = np.sin(phase, out=phase)
        total = wave if total is None else np.add(total, wave, out=total)
    return total * np.float32(np.sqrt(2 / waves))
