"""Signed distances (mm, negative inside) of simple solids, and functions that paint them on a canvas.

Ellipsoid distances are first-order approximations and exact on the surface, which suffices for soft borders and
constructive geometry.
"""

from __future__ import annotations

import numpy as np

from ctvlm.phantom.canvas import Canvas, Point


def ellipsoid(x, y, z, center: Point, radii: Point, turn: float = 0.0) -> np.ndarray:
    """Distance to an ellipsoid that is rotated by ``turn`` radians about z."""
    f = np.float32
    u, v, w = x - f(center[0]), y - f(center[1]), z - f(center[2])
    if turn:
        c, s = f(np.cos(turn)), f(np.sin(turn))
        u, v = c * u + s * v, c * v - s * u
    u *= f(1 / radii[0])
    v *= f(1 / radii[1])
    w = w * f(1 / radii[2])
    u *= u
    v *= v
    u += v
    u += w * w
    np.sqrt(u, out=u)
    u -= f(1)
    u *= f(min(radii))
    return u


def capsule(x, y, z, a: Point, b: Point, ra: float, rb: float) -> np.ndarray:
    """Distance to a capsule from ``a`` to ``b`` whose radius changes from ``ra`` to ``rb``."""
    f = np.float32
    ax, ay, az = float(a[0]), float(a[1]), float(a[2])
    dx, dy, dz = float(b[0]) - ax, float(b[1]) - ay, float(b[2]) - az
    scale = 1 / max(dx * dx + dy * dy + dz * dz, 1e-6)
    u, v, w = x - f(ax), y - f(ay), z - f(az)
    h = u * f(dx * scale)
    h += v * f(dy * scale)
    h += w * f(dz * scale)
    np.maximum(h, f(0), out=h)
    np.minimum(h, f(1), out=h)
    u -= h * f(dx)
    v -= h * f(dy)
    u *= u
    v *= v
    u += v
    w = w - h * f(dz)
    w *= w
    u += w
    np.sqrt(u, out=u)
    if rb != ra:
        h *= f(rb - ra)
        u -= h
    u -= f(ra)
    return u


def superellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Gauge of a shape between an ellipse and a square with |u|, |v| <= 1: 1 on the border, smaller inside."""
    u = u * u
    v = v * v
    total = u + v
    total *= np.float32(0.72)
    u *= u
    v *= v
    u += v
    np.sqrt(u, out=u)
    u *= np.float32(0.28)
    total += u
    return np.sqrt(total, out=total)


def draw_ellipsoid(canvas: Canvas, center, radii, hu, region=None, lesion=None, turn=0.0, inside=None, **kwargs):
    """Paint an ellipsoid. One thinner than a voxel is widened, and its HU is weakened instead (partial volume)."""
    least = (0.5 * canvas.edge, 0.5 * canvas.edge, 0.55 * canvas.dz)
    wide = [max(r, m) for r, m in zip(radii, least, strict=True)]
    strength = float(np.prod(np.divide(radii, wide))) ** 0.7  # exponent below 1: slices of a real scan overlap
    reach = np.array([max(wide[:2])] * 2 + [wide[2]]) if turn else np.array(wide)
    box = canvas.box(np.subtract(center, reach), np.add(center, reach))
    if box is None:
        return None
    distance = ellipsoid(*canvas.coords(box), center, wide, turn)
    inside = inside(box) if callable(inside) else inside
    canvas.paint(box, distance, hu, region, lesion, strength=strength, inside=inside, **kwargs)
    return box


def draw_tube(
    canvas: Canvas,
    points,
    radii,
    hu,
    region=None,
    lesion=None,
    inside=None,
    wall=0.0,
    lumen_hu=None,
    lumen_region=None,
    **kwargs,
) -> None:
    """Paint a tube through ``points`` (N, 3) with radius ``radii`` (scalar or N).

    The outer ``wall`` mm get ``hu``, the lumen gets ``lumen_hu`` and ``lumen_region`` if given. ``inside`` is a
    function from a box to the mask of the voxels that may change.
    """
    points = np.asarray(points, np.float64)
    radii = np.broadcast_to(np.asarray(radii, np.float64), len(points)).tolist()
    rows = points.tolist()
    drawn = []
    for a, b, ra, rb in zip(rows[:-1], rows[1:], radii[:-1], radii[1:], strict=True):
        r = max(ra, rb)
        box = canvas.box([min(p, q) - r for p, q in zip(a, b)], [max(p, q) + r for p, q in zip(a, b)])
        if box is None:
            continue
        distance = capsule(*canvas.coords(box), a, b, ra, rb)
        where = inside(box) if callable(inside) else None
        canvas.paint(box, distance, hu, region, lesion, inside=where, **kwargs)
        if lumen_hu is not None:
            drawn.append((box, distance, where))
    for box, distance, where in drawn:  # after all walls, so that no wall crosses the lumen
        canvas.paint(box, distance + np.float32(wall), lumen_hu, lumen_region, inside=where, **kwargs)


def draw_segments(canvas: Canvas, starts, ends, radii, hu, inside=None, lesion=None, **kwargs) -> None:
    """Paint many separate thin segments from ``starts`` (N, 3) to ``ends`` (N, 3).

    Segments thinner than a voxel are drawn weaker instead of being lost.
    """
    starts, ends = np.asarray(starts, np.float32), np.asarray(ends, np.float32)
    radii = np.broadcast_to(np.asarray(radii, np.float32), len(starts))
    wide = np.maximum(radii, 0.5 * canvas.edge)
    strength = (radii / wide) ** 1.15
    low, high = np.minimum(starts, ends) - wide[:, None], np.maximum(starts, ends) + wide[:, None]
    for i, box in enumerate(canvas.boxes(low, high)):
        if box is None:
            continue
        distance = capsule(*canvas.coords(box), starts[i], ends[i], float(wide[i]), float(wide[i]))
        where = inside(box) if callable(inside) else None
        canvas.paint(box, distance, hu, lesion=lesion, strength=float(strength[i]), inside=where, **kwargs)


def splat_segments(canvas: Canvas, starts, ends, radii, hu: float, inside: np.ndarray) -> None:
    """Paint many segments (N, 3) that are thinner than a voxel in one pass.

    Points along each segment add their share of ``hu`` to the four nearest voxels of the nearest slice. ``inside``
    (D, H, W) is the mask of the voxels that may change.
    """
    starts, ends, radii = (np.asarray(a, np.float64) for a in (starts, ends, radii))
    lengths = np.linalg.norm(ends - starts, axis=1)
    step = min(0.5 * canvas.edge, 0.5 * canvas.dz)
    counts = np.maximum((lengths / step).astype(int), 1)
    owner = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    t = (within + 0.5) / counts[owner]
    share = np.minimum(1.0, (2 * radii[owner] / canvas.edge)) ** 1.15
    index = canvas.index_of(starts[owner] + (ends - starts)[owner] * t[:, None])
    k = np.rint(index[:, 2]).astype(int)
    i, j = np.floor(index[:, 0]).astype(int), np.floor(index[:, 1]).astype(int)
    fx, fy = index[:, 0] - i, index[:, 1] - j
    depth, height, width = canvas.shape
    good = (k >= 0) & (k < depth) & (i >= 0) & (i < width - 1) & (j >= 0) & (j < height - 1)
    total = np.zeros(canvas.shape, np.float32).ravel()
    flat = (k * height + j) * width + i
    for dj, wy in ((0, 1 - fy), (1, fy)):
        for di, wx in ((0, 1 - fx), (1, fx)):
            weight = (wx * wy) ** 0.7 * share
            np.maximum.at(total, (flat + dj * width + di)[good], weight[good].astype(np.float32))
    hit = np.flatnonzero(total)
    hit = hit[inside.ravel()[hit]]
    values = canvas.hu.ravel()
    values[hit] += total[hit] * (np.float32(hu) - values[hit])


def smooth_noise(x, y, z, rng: np.random.Generator, wavelength: float, waves: int = 5) -> np.ndarray:
    """Smooth random field of about unit variance: a sum of plane waves, which does not depend on the voxel grid."""

    def plane_wave() -> np.ndarray:
        direction = rng.normal(size=3)
        k = direction / np.linalg.norm(direction) * (2 * np.pi / (wavelength * rng.uniform(0.7, 1.5)))
        phase = x * np.float32(k[0]) + y * np.float32(k[1]) + (z * np.float32(k[2]) + np.float32(rng.uniform(0, 6.283)))
        return np.sin(phase, out=phase)

    total = plane_wave()
    for _ in range(waves - 1):
        total += plane_wave()
    return total * np.float32(np.sqrt(2 / waves))
