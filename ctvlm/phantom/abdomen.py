"""Liver, gallbladder, spleen, stomach, pancreas, kidneys and bowel."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.ids import GALLBLADDER, KIDNEY_LEFT, KIDNEY_RIGHT, LIVER, PANCREAS, SPLEEN, STOMACH
from ctvlm.phantom.shapes import draw_ellipsoid, draw_segments, draw_tube, ellipsoid, smooth_noise


def liver_distance(x, y, z, cavity, patient):
    """Distance to the liver: below the dome, inside the ribs, above an oblique lower edge, in front of the kidney."""
    size = patient.size["liver"]
    u, v, w = (np.float32(c) for c in patient.shift["liver"])
    edge = np.float32(-54 - 62 * (size - 1)) - (x - u) * np.float32(0.46) - (y - v) * np.float32(0.10) + w
    bow = np.float32(0.0016) * np.square(x - np.float32(60))
    lower = (edge + bow - z) * np.float32(0.85)
    top = (z - geo.diaphragm(x, y, patient) + np.float32(3)) * np.float32(0.8)
    # The left lobe is thin and anterior; the right lobe extends to the back.
    back = (np.float32(-88) + np.maximum(np.float32(62) - x, 0) * np.float32(1.22) - y) * np.float32(0.6)
    left = (np.float32(-38 - 45 * (size - 1)) - x + (z + np.float32(20)) * np.float32(-0.35) + u) * np.float32(0.8)
    distance = np.maximum(np.maximum(cavity + 4, top), np.maximum(lower, np.maximum(back, left)))
    center, radii, turn = geo.kidney_frame(patient, 1)
    return np.maximum(distance, -ellipsoid(x, y, z, center, radii + 7, turn))


def draw_liver(canvas: Canvas) -> None:
    """Draw the liver with portal and hepatic veins."""
    p = canvas.patient
    box = canvas.box((-82, -100, -170), (156, 108, 16))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    distance = liver_distance(x, y, z, canvas.cavity[box], p)
    rng = np.random.default_rng(p.texture_seed + 3)
    hu = np.float32(p.hu["liver"]) + smooth_noise(x, y, z, rng, 60.0, 2) * 3
    canvas.paint(box, distance, hu, region=LIVER)
    vessel = p.hu["portal"] if p.phase != "non_contrast" else p.hu["liver"] - 16
    in_liver = lambda b: canvas.region[b] == LIVER  # noqa: E731
    porta, cava = np.array((34, 14, -62)), np.array((24, -2, -16))
    starts, ends, radii = [], [], []
    portal = ((70, 16, -58), (108, 30, -62), (110, -30, -58), (80, -50, -50), (8, 40, -52))
    hepatic = ((70, -30, -26), (110, -20, -36), (60, 40, -30), (100, 40, -44), (4, 46, -34))
    for start, targets, r in ((porta, portal, 4.5), (cava, hepatic, 4.0)):
        for target in targets:
            end = np.array(target) + rng.normal(0, 5, 3)
            middle = (start + end) / 2 + rng.normal(0, 4, 3)
            starts += [start, middle]
            ends += [middle, end]
            radii += [r, r * 0.65]
    draw_segments(canvas, starts, ends, radii, vessel, inside=in_liver)


def draw_gallbladder(canvas: Canvas) -> None:
    """Draw the gallbladder: bile in a thin wall."""
    p = canvas.patient
    center, radii = geo.gallbladder_frame(p)
    draw_ellipsoid(canvas, center, radii + 1.2, p.hu["wall"] + 5, GALLBLADDER)
    draw_ellipsoid(canvas, center, radii - 1, 9.0, GALLBLADDER)


def spleen_distance(x, y, z, cavity, patient):
    """Distance to the spleen: a crescent between ribs, diaphragm and stomach."""
    center, radii, turn = geo.spleen_frame(patient)
    distance = np.maximum(ellipsoid(x, y, z, center, radii, turn), cavity + 4)
    distance = np.maximum(distance, z - geo.diaphragm(x, y, patient) + 3)
    return np.maximum(distance, -ellipsoid(x, y, z, np.add(center, (40, 24, -4)), radii * (0.9, 0.78, 1.0), turn))


def draw_spleen(canvas: Canvas) -> None:
    """Draw the spleen, which follows the ribs."""
    p = canvas.patient
    center, radii, _ = geo.spleen_frame(p)
    reach = float(max(radii)) + 2
    box = canvas.box(center - reach, center + reach)
    if box is not None:
        distance = spleen_distance(*canvas.coords(box), canvas.cavity[box], p)
        canvas.paint(box, distance, p.hu["spleen"], region=SPLEEN)


def draw_stomach(canvas: Canvas) -> None:
    """Draw the stomach: wall, fluid, food, and gas above a horizontal level (the patient is supine)."""
    p = canvas.patient
    points, radius = geo.stomach_path(p)
    lumen = radius - 4.0
    rng = np.random.default_rng(p.texture_seed + 4)
    content = float(rng.uniform(5, 45))
    level = points[:, 1].mean() + p.gas * 26
    within = lambda b: canvas.cavity[b] < -3  # noqa: E731
    draw_tube(canvas, points, radius, p.hu["wall"] + 3, STOMACH, inside=within, wall=4.0, lumen_hu=content)
    gas = lambda b: (canvas.region[b] == STOMACH) & (canvas.y[b] > level)  # noqa: E731
    draw_tube(canvas, points, lumen, -930.0, inside=gas)
    # Folds of the wall and food make the contents inhomogeneous.
    for _ in range(4):
        at = points[rng.integers(len(points) - 1)] + rng.normal(0, 9, 3)
        draw_ellipsoid(
            canvas, at, rng.uniform(4, 9, 3), content + rng.normal(0, 28), inside=lambda b: canvas.region[b] == STOMACH
        )


def draw_pancreas(canvas: Canvas) -> None:
    """Draw the pancreas between duodenum and spleen, with clefts of fat and the splenic vein behind it."""
    p = canvas.patient
    points, radius = geo.pancreas_path(p)
    draw_tube(canvas, points - (0, 10, -2), 4.0, p.hu["portal"])
    draw_tube(canvas, points, radius, p.hu["pancreas"], PANCREAS)
    rng = np.random.default_rng(p.texture_seed + 5)
    for _ in range(5):  # clefts of fat
        i = rng.integers(len(points) - 1)
        at = points[i] + (points[i + 1] - points[i]) * rng.random() + rng.normal(0, 1, 3) + (0, radius[i], 0)
        draw_ellipsoid(canvas, at, (3, 4, 5), -60.0)


def draw_kidneys(canvas: Canvas) -> None:
    """Draw kidneys with medulla and sinus fat, renal veins and adrenals."""
    p = canvas.patient
    for side, region in ((1, KIDNEY_RIGHT), (-1, KIDNEY_LEFT)):
        center, radii, turn = geo.kidney_frame(p, side)
        draw_ellipsoid(canvas, center, radii, p.hu["kidney"], region, turn=turn)
        if p.phase == "arterial":
            draw_ellipsoid(canvas, center, radii - 9, p.hu["kidney"] * 0.55, turn=turn)
        hilum = center + np.array((-side * 17, 6, 0))
        draw_ellipsoid(canvas, hilum, (13, 10, 19), -72.0, turn=turn)
        draw_ellipsoid(canvas, np.add(hilum, (-side * 3, 0, -4)), (5, 4, 12), 10.0, turn=turn)
        vein = [hilum, (side * 12, geo.spine_y(center[2]) + 34, center[2] + 4)]
        draw_tube(canvas, vein, 4.0, p.hu["portal"])
        top = center + np.array((-side * 16, 0, radii[2] + 6))
        draw_tube(canvas, [np.add(top, (0, 8, 0)), np.add(top, (side * 8, -12, 0))], 2.6, 25.0)
        draw_tube(canvas, [np.add(top, (0, 8, 0)), np.add(top, (-side * 4, -12, 0))], 2.6, 25.0)


def draw_bowel(canvas: Canvas) -> None:
    """Draw duodenum, small bowel and colon with gas and stool."""
    p = canvas.patient
    rng = np.random.default_rng(p.texture_seed + 6)
    free = lambda b: (canvas.region[b] == 0) & (canvas.cavity[b] < -4)  # noqa: E731
    draw_tube(
        canvas, [(18, 54, -90), (46, 36, -92), (54, 14, -112), (44, 6, -140), (0, 8, -150)], 12, 35.0, inside=free
    )
    for _ in range(18):
        at = np.array((rng.uniform(-105, 105), rng.uniform(5, 92), rng.uniform(-200, -92)))
        radius = rng.uniform(10, 17)
        end = at + rng.normal(0, 20, 3)
        draw_tube(canvas, [at, end], radius, p.hu["wall"], inside=free, wall=3.5, lumen_hu=rng.uniform(0, 40))
    waypoints = [(112, 20, -200), (116, 22, -140), (104, 50, -112), (50, 84, -122), (-20, 88, -112), (-84, 74, -92),
                 (-114, 30, -78), (-118, 4, -110), (-116, 0, -200)]  # fmt: skip
    colon = np.array(waypoints) + rng.normal(0, 6, (len(waypoints), 3))
    draw_tube(canvas, colon, 21, p.hu["wall"], inside=free)
    for a, b in zip(colon[:-1], colon[1:], strict=True):
        for t in (0.25, 0.75):
            at, radii = a + (b - a) * t + rng.normal(0, 3, 3), rng.uniform(11, 18, 3)
            draw_ellipsoid(canvas, at, radii, rng.uniform(-60, 45), inside=free)
            if rng.random() < 0.5:
                draw_ellipsoid(canvas, np.add(at, (0, 6, 0)), radii * (0.9, 0.6, 0.9), -900.0, inside=free)
