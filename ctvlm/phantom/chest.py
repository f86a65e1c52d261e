"""Lungs with lobes and vessels, airways, mediastinum, heart, great vessels, oesophagus and thyroid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.ids import AORTA, ESOPHAGUS, HEART, MEDIASTINUM, THYROID, TRACHEA
from ctvlm.phantom.patient import Patient
from ctvlm.phantom.shapes import (
    draw_ellipsoid,
    draw_segments,
    draw_tube,
    ellipsoid,
    smooth_noise,
    splat_segments,
)


def draw_lungs(canvas: Canvas) -> None:
    """Draw the parenchyma, slightly denser posteriorly, with fissures, and write the five lobes into the region map."""
    p = canvas.patient
    box = canvas.box((-156, -112, -115), (156, 108, 174))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    floor = (geo.diaphragm(x, y, p) - z) * np.float32(0.75)
    distance = np.maximum(canvas.cavity[box] + np.float32(1.5), floor)
    # Muscle of the diaphragm below the lungs, so that no fat borders on lung there.
    canvas.paint(box, distance - np.float32(4), 48.0, inside=(floor > -6) & (canvas.cavity[box] < -2))
    # The rest is computed only for lung voxels.
    near = np.nonzero(distance < canvas.edge)
    distance, x, y, z = distance[near], x[near], y[near], z.ravel()[near[0]]
    rng = np.random.default_rng(p.texture_seed)
    hu = np.float32(p.lung_hu) - (y + 10) * np.float32(0.32) + smooth_noise(x, y, z, rng, 55.0, 3) * np.float32(11)
    fissure = np.exp(-np.square(geo.fissure_distance(x, y, z, p) * np.float32(1 / max(1.0, canvas.edge * 0.6))))
    hu += fissure * np.float32(130 * min(1.0, 1.6 / canvas.edge))
    weight = np.clip(np.float32(0.5) - distance * np.float32(1 / canvas.edge), 0, 1)
    values = canvas.hu[box]
    old = values[near]
    values[near] = old + weight * (hu - old)
    labels = canvas.region[box]
    labels[near] = np.where(distance < 0, geo.lobe_map(x, y, z, p), labels[near])


def vessel_tree(patient: Patient, side: int, rng: np.random.Generator, leaves: int = 84) -> tuple[np.ndarray, ...]:
    """Starts, ends (N, 3) and radii (N,) of the vessels of one lung: a tree from the hilum to random leaves."""
    lobes = geo.LOBES_RIGHT if side > 0 else geo.LOBES_LEFT
    points = geo.lung_points(patient, lobes, leaves, rng, 9.0, (-100, 160))
    hilum = geo.HILUM[side]
    order = np.argsort(np.linalg.norm(points - hilum, axis=1))
    nodes = np.concatenate([hilum[None], points[order]])
    from_hilum = np.linalg.norm(nodes - hilum, axis=1)
    gaps = np.linalg.norm(nodes[:, None] - nodes[None], axis=2)
    # The parent of a leaf is a near node that is closer to the hilum; radial connections cost less.
    cost = np.where(from_hilum[None] < from_hilum[:, None] - 4, gaps + 0.75 * from_hilum[None], np.inf)
    parent = cost.argmin(axis=1)
    flow = np.ones(len(nodes))
    for i in range(len(nodes) - 1, 0, -1):
        flow[parent[i]] += flow[i]
    return nodes[parent[1:]], nodes[1:], 1.1 * flow[1:] ** 0.42


def draw_lung_vessels(canvas: Canvas) -> None:
    """Draw pulmonary vessels: solid near the hilum, weaker towards the pleura."""
    p = canvas.patient
    # Sampled outside a large heart, so that cardiomegaly does not change all vessels.
    planned = replace(p, size={**p.size, "heart": 1.2})
    rng = np.random.default_rng(p.texture_seed + 1)
    in_lung = (canvas.region >= 1) & (canvas.region <= 5)
    trees = [vessel_tree(planned, side, rng) for side in (1, -1)]
    starts, ends, radii = (np.concatenate(part) for part in zip(*trees, strict=True))
    radii = np.minimum(radii, 6.0)
    blood, thin = p.hu["pulmonary"], radii < 0.6 * canvas.edge
    splat_segments(canvas, starts[thin], ends[thin], radii[thin], blood, in_lung)
    draw_segments(canvas, starts[~thin], ends[~thin], radii[~thin], blood, inside=lambda box: in_lung[box])


def draw_mediastinum(canvas: Canvas) -> None:
    """Draw mediastinal fat, pulmonary trunk and arteries, caval veins, branches of the arch and hilar vessels."""
    p = canvas.patient
    box = canvas.box((-42, -112, -45), (42, 100, 192))
    if box is not None:
        x, y, z = canvas.coords(box)
        distance = np.maximum(geo.mediastinum_distance(x, y, z), canvas.cavity[box] - 1)
        distance = np.maximum(distance, geo.diaphragm(x, y, p) - 6 - z)
        canvas.paint(box, distance, -92.0 + 22 * (1 - p.visceral), region=MEDIASTINUM)
    blood, veins = p.hu["pulmonary"], p.hu["veins"]
    hilum = geo.HILUM
    arch = p.shift["arch"] * 0.7
    for side in (1, -1):  # hilar vessels: from the back of the heart and the pulmonary arteries
        for dy, dz, r in ((6, 10, 6.5), (2, -10, 6), (10, -22, 5)):
            draw_tube(
                canvas, [(side * 12, 2 + dy, 52 + dz), hilum[side] + (0, dy, dz * 0.7)], [r + 2, r], blood, MEDIASTINUM
            )
        draw_tube(canvas, [hilum[side], hilum[side] + (side * 8, 0, -26)], [8, 6], blood, MEDIASTINUM)
    trunk = np.array([(-22, 52, 44), (-26, 40, 66), (-24, 16, 80)]) + arch
    draw_tube(canvas, trunk, [14, 14.5, 13], blood, MEDIASTINUM)
    draw_tube(canvas, [trunk[2], (6, 6, 78), (44, -10, 72)], [12.5, 11, 9.5], blood, MEDIASTINUM)
    draw_tube(canvas, [trunk[2], (-46, -16, 78)], [12.5, 10], blood, MEDIASTINUM)
    cava = [(24, 22, 40), (29, 16, 80), (28, 16, 112), (24, 18, 132)]
    draw_tube(canvas, cava, [11, 10, 9.5, 9], veins, MEDIASTINUM)
    draw_tube(canvas, [cava[3], (-18, 30, 128), (-34, 22, 142)], [8, 7, 7], veins, MEDIASTINUM)
    draw_tube(canvas, [cava[3], (32, 16, 150)], [8, 7.5], veins, MEDIASTINUM)
    draw_tube(canvas, [(20, 14, 18), (22, 4, -14), (21, -8, -60), (19, -14, -200)], [13, 12.5, 12, 11], p.hu["portal"])
    aorta = p.hu["aorta"]
    for start, middle, end, r in (((10, 8, 112), (14, 10, 135), (26, -8, 160), 6.5),
                                  ((-4, -8, 116), (-12, -2, 140), (-26, -10, 165), 4.5),
                                  ((-15, -26, 112), (-22, -20, 138), (-34, -18, 160), 5.5)):  # fmt: skip
        draw_tube(canvas, [start, middle, end], r, aorta, MEDIASTINUM)
    for s in (1, -1):  # carotids and jugular veins
        draw_tube(canvas, [(s * 26, -9, 162), (s * 27, -10, 215)], 3.8, aorta)
        draw_tube(canvas, [(s * 32, 6, 152), (s * 35, -8, 215)], 5.5, veins)


def draw_heart(canvas: Canvas) -> None:
    """Draw pericardial fat, myocardium and four chambers, with blood by contrast phase; set ``canvas.pericardium``."""
    p = canvas.patient
    center, radii, turn = geo.heart_frame(p)
    fat = 2.5 + 4.5 * p.visceral
    reach = float(max(radii)) + 8
    box = canvas.box(center - reach, center + reach)
    if box is None:
        return
    x, y, z = canvas.coords(box)
    outer = ellipsoid(x, y, z, center, radii, turn)
    floor = geo.diaphragm(x, y, p) - 2 - z
    outer = np.maximum(outer, np.maximum(floor, canvas.cavity[box] + 4))
    canvas.pericardium = (box, outer)
    canvas.paint(box, outer - fat, -96.0, inside=canvas.region[box] != MEDIASTINUM)
    canvas.region[box][(outer < fat) & (canvas.region[box] <= 5)] = MEDIASTINUM
    hu = p.hu
    canvas.paint(box, outer, hu["myocardium"], region=HEART)
    scale = radii / np.array((65.0, 46.0, 45.0))
    c, s = np.cos(turn), np.sin(turn)

    def place(offset):  # offsets are in the rotated frame of the heart
        u, v, w = np.array(offset) * scale
        return np.add(center, (c * u - s * v, s * u + c * v, w))

    chambers = (((-30, -8, -8), (30, 21, 22), "left_heart"), ((-6, 26, -8), (36, 16, 24), "right_heart"),
                ((38, 10, 2), (20, 23, 28), "right_heart"), ((14, -26, 16), (28, 17, 20), "left_heart"))  # fmt: skip
    for offset, size, name in chambers:
        draw_ellipsoid(canvas, place(offset), np.multiply(size, scale), hu[name], HEART, turn=turn)
    # Fat in the grooves between the chambers, where the coronary arteries run.
    for path in geo.coronary_paths(p):
        draw_tube(canvas, path, 3.5, -58.0, HEART)


def draw_aorta(canvas: Canvas) -> None:
    """Draw the aorta from the root to below the diaphragm, with a wall that is visible without contrast."""
    p = canvas.patient
    points, radius, _ = geo.aorta_path(p)
    draw_tube(canvas, points, radius, p.hu["wall"], AORTA, wall=1.4, lumen_hu=p.hu["aorta"])


def draw_airways(canvas: Canvas) -> None:
    """Draw trachea and main bronchi (region ``trachea``) and the lobar bronchi in the lungs."""
    p = canvas.patient
    pipe = geo.trachea_path(p)
    carina = pipe[-1]
    right, left = geo.HILUM[1] + (-6, 2, 8), geo.HILUM[-1] + (4, 4, 4)
    for side, start in ((1, right), (-1, left)):
        for dx, dy, dz in ((20, 6, 22), (26, 18, -12), (16, -16, -30)):
            end = np.add(start, (side * dx, dy, dz))
            draw_tube(canvas, [start, end], [4.6, 3.4], -350.0, wall=1.2, lumen_hu=-960.0)
    air = dict(wall=1.8, lumen_hu=-985.0, lumen_region=TRACHEA)
    draw_tube(canvas, [carina, right], [9.3, 8.6], 30.0, **air)
    draw_tube(canvas, [carina, left], [8.8, 8.0], 30.0, **air)
    draw_tube(canvas, pipe, 10.2, 30.0, **air)
    # Open the carina, where the walls of trachea and bronchi overlap.
    draw_tube(canvas, [right, carina, left], 5.8, -985.0)


def draw_esophagus(canvas: Canvas) -> None:
    """Draw a collapsed muscular tube with a little air at two heights."""
    p = canvas.patient
    points, radius = geo.esophagus_path(p)
    draw_tube(canvas, points, radius, p.hu["wall"] + 2, ESOPHAGUS)
    rng = np.random.default_rng(p.texture_seed + 2)
    for z in rng.uniform(-20, 150, 2):
        at = [np.interp(z, points[::-1, 2], points[::-1, i]) for i in range(3)]
        draw_ellipsoid(canvas, at, (2.5, 2.0, 9), -650.0)


def draw_thyroid(canvas: Canvas) -> None:
    """Draw two lobes beside the trachea and the isthmus in front of it."""
    p = canvas.patient
    size = p.size["thyroid"]
    shift = p.shift["thyroid"]
    y = geo.spine_y(180) + 46
    for s in (1, -1):
        center = np.array((s * (13 + 6.5 * size), y, 181)) + shift
        draw_ellipsoid(canvas, center, np.array((9.5, 11, 22)) * size, p.hu["thyroid"], THYROID, turn=-0.4 * s)
    draw_tube(canvas, [np.array((-15, y + 9, 176)) + shift, np.array((15, y + 9, 176)) + shift], 4.5 * size,
              p.hu["thyroid"], THYROID)  # fmt: skip
