"""Table, skin, fat, muscle, ribs, sternum, shoulder girdle and spine."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import ids
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.geometry import CAVITY, DISCS, MUSCLE, SPINE, cavity_gauge, profile, rib_comb
from ctvlm.phantom.shapes import draw_ellipsoid, draw_segments, draw_tube, smooth_noise, superellipse

FAT, MUSCLE_HU = -103.0, 52.0


def draw_body(canvas: Canvas) -> None:
    """Draw skin, subcutaneous fat, muscle and the fat in the cavity; set ``canvas.cavity``."""
    p = canvas.patient
    x, y, z = canvas.coords(canvas.full)
    a, yc, b = profile(MUSCLE, z)
    neck = np.clip((205 - z) / 30, 0.3, 1).astype(np.float32)
    # Fat is thicker over the belly and the flanks than over the chest.
    belly = np.clip(1 - (z + 60) / 140, 0.55, 1.25).astype(np.float32)
    side, front = p.fat * 0.9 * neck * belly, p.fat * 0.85 * neck * belly
    arms = np.float32(12 if p.arms else 0) * np.clip((z - 60) / 60, 0, 1).astype(np.float32)
    skin = superellipse(x / (a + side + arms), (y - yc) / (b + front))
    canvas.paint(canvas.full, (skin - 1) * b, FAT)
    if p.female:
        size = 26 + 0.8 * p.fat
        for sign in (1, -1):
            center, radii = (sign * 82, 84, 34), (size * 1.35, size, size * 1.25)
            box = draw_ellipsoid(canvas, center, radii, FAT)
            if box is not None:
                draw_ellipsoid(canvas, (sign * 82, 98, 34), np.multiply(radii, 0.45), 5.0)
    muscle = superellipse(x / a, (y - yc) / b)
    depth = (1 - muscle) * b
    canvas.paint(canvas.full, -depth, MUSCLE_HU)
    for sign in (1, -1):  # axillary fat, and the fat plane between the back muscles
        draw_ellipsoid(canvas, (sign * 148, 6, 112), (16, 34, 46), FAT + 15)
        draw_ellipsoid(canvas, (sign * 122, -84, 92), (34, 7, 50), FAT + 25, turn=-sign * 0.5)
    gauge, unit = cavity_gauge(x, y, z)
    canvas.cavity = (gauge - 1) * unit
    canvas.paint(canvas.full, canvas.cavity, FAT - 2)
    # Fat planes between the muscles of the wall: wavy sheets of varying depth.
    at = np.nonzero((canvas.cavity > 9) & (depth > 5))
    x, y, z = x[at], y[at], z.ravel()[at[0]]
    rng = np.random.default_rng(p.texture_seed + 7)
    sheet = np.abs(smooth_noise(x, y, z * np.float32(0.45), rng, 48.0, 4))
    weight = np.clip(1.15 - sheet * np.float32(5.5 - 2.0 * p.visceral), 0, 1) * np.float32(0.75)
    canvas.hu[at] += weight * (FAT - canvas.hu[at])


def draw_table(canvas: Canvas) -> None:
    """Draw a curved table under the back: two thin carbon shells filled with foam, in scanner coordinates."""
    p = canvas.patient
    depth = (p.fat * 0.85 + 122) * p.scale[1] + 17
    y, x = canvas.phys_y[:, None], canvas.phys_x[None]
    top = -depth + p.table_y + (x * x) * np.float32(1 / 1100)
    inside = (np.abs(x) < 205) & (y < top) & (y > -depth + p.table_y - 30 + x * x * np.float32(1 / 2600))
    edge = canvas.edge
    shell = np.clip(1 - np.abs(y - top) / edge, 0, 1) * np.float32(min(1, 2.5 / edge)) * (np.abs(x) < 205)
    flat = np.where(inside, np.float32(-935), np.float32(-1000))
    flat = flat + shell * 900
    np.copyto(canvas.hu, np.maximum(canvas.hu, flat[None]), where=canvas.hu < -950)


def draw_ribs(canvas: Canvas) -> None:
    """Draw all ribs (the intersection of the cavity wall and a slanted comb in z), sternum, clavicles and scapulae."""
    p = canvas.patient
    # Ribs lie in a thin shell; only its voxels are computed.
    shell = np.nonzero(np.abs(canvas.cavity - np.float32(5.0)) < 4.5 + canvas.edge)
    y, z = canvas.y[shell], canvas.z.ravel()[shell[0]]
    depth = canvas.cavity[shell] - np.float32(5.0)
    turn, comb, height = rib_comb(y, z)
    # The lowest ribs are floating: lower ribs are shorter.
    reach = np.clip((height + 132) / 95, 0, 1)
    present = (turn < reach * 1.05) & (height > -125) & (height < 172)
    distance = np.sqrt(np.square(depth * np.float32(1 / 4.0)) + np.square(comb * np.float32(1 / 7.0))) * 4 - 4
    bone = np.where(turn > 0.86, np.float32(115), np.float32(430) + 110 * np.clip(distance, -3, 1)) * np.float32(p.bone)
    weight = np.clip(np.float32(0.5) - distance / np.float32(canvas.edge), 0, 1) * present
    old = canvas.hu[shell]
    canvas.hu[shell] = old + weight * (bone - old)
    canvas.region[shell] = np.where(weight > 0.5, np.uint8(ids.RIB_CAGE), canvas.region[shell])
    # Sternum: manubrium and body follow the front of the chest.
    front = lambda h: float(np.interp(h, CAVITY[:, 0], CAVITY[:, 2] + CAVITY[:, 3])) + 6  # noqa: E731
    points = [(0, front(h) + d, h) for h, d in ((2, 0), (35, 0), (70, 0), (100, 1), (122, 2))]
    for dx in (-8, 0, 8):
        draw_tube(canvas, np.add(points, (dx, 0, 0)), [5, 5.5, 6, 6, 6.5], 300 * p.bone, ids.RIB_CAGE)
    draw_tube(canvas, points, 3.2, 130 * p.bone, ids.RIB_CAGE)
    for s in (1, -1):
        draw_tube(canvas, [(s * 20, front(126) - 2, 128), (s * 60, 38, 146), (s * 105, 14, 160), (s * 150, -12, 162)],
                  6.5, 380 * p.bone, ids.RIB_CAGE)  # fmt: skip
        # Scapula: blade, spine and glenoid.
        blade_low, blade_mid, blade_top = (s * 112, -92, 62), (s * 122, -80, 105), (s * 140, -52, 150)
        lateral = (s * 158, -42, 140)
        for start, end in ((blade_low, lateral), (blade_low, blade_top), (blade_mid, lateral), (blade_top, lateral)):
            draw_tube(canvas, [start, end], 3.6, 330 * p.bone, ids.RIB_CAGE)
        draw_ellipsoid(canvas, (s * 168, -24, 158), (20, 22, 22), 230 * p.bone)
        if p.arms:
            draw_tube(canvas, [(s * 186, -24, 150), (s * 196, -20, 60)], 11, 420 * p.bone)


def draw_spine(canvas: Canvas) -> None:
    """Draw vertebral bodies with cortical shell, discs, canal, pedicles, transverse and spinous processes."""
    p = canvas.patient
    box = canvas.box((-58, -128, -260), (58, 0, 260))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    yc, half = profile(SPINE, z)
    half = half * np.float32(p.size["vertebra"])
    v = y - yc
    u = x / half
    body = (np.sqrt(u * u + np.square(v / (half * np.float32(0.84)))) - 1) * half * np.float32(0.9)
    nearest = np.abs(z - DISCS[np.abs(z - DISCS).argmin(axis=-1, keepdims=True)])  # (d, 1, 1)
    disc = np.clip((np.float32(3.4) - nearest) / np.float32(max(2.0, canvas.dz * 0.5)) + 0.5, 0, 1)
    endplate = np.exp(-np.square((nearest - 6) * np.float32(1 / max(2.5, canvas.dz * 0.4))))
    marrow = (np.float32(165) + 90 * endplate) * np.float32(p.bone)
    cortex = np.clip((body + 3.5) / 3.5, 0, 1) * np.float32(260 * p.bone)
    bone = marrow + cortex
    canvas.paint(box, body, bone + disc * (80 - bone), region=ids.SPINE)
    # The arch behind the body, widest between the discs.
    between = 1 - 0.7 * disc
    back = v + half * np.float32(0.84) + np.float32(10)  # 0 in the middle of the canal
    ring = np.abs(np.sqrt(np.square(x / np.float32(1.25)) + back * back) - np.float32(11.5)) - np.float32(3.4) * between
    canvas.paint(box, ring, np.float32(390 * p.bone) * between + 20, region=ids.SPINE)
    wing = np.maximum(np.abs(back + np.float32(8) + np.abs(x) * np.float32(0.25)) - 4 * between, np.abs(x) - 36)
    wing = np.maximum(wing, 11 - np.abs(x))
    spinous = np.maximum(np.abs(x) - np.float32(3.6), np.maximum(back + 12, -(back + 36)))
    process = np.minimum(wing + 8 * disc, spinous + 6 * disc)
    canvas.paint(box, process, np.float32(340 * p.bone), region=ids.SPINE)
    canal = np.sqrt(np.square(x / np.float32(1.2)) + back * back) - np.float32(8)
    canvas.paint(box, canal, 28.0, region=ids.SPINE)
    # The paraspinal muscles are drawn already; a streak of fat separates them from the ribs.
    for s in (1, -1):
        draw_segments(canvas, [(s * 44, -88, -170)], [(s * 50, -98, 110)], 3.0, FAT + 30)
    for s in (1, -1):  # psoas
        draw_tube(canvas, [(s * 24, -44, -85), (s * 36, -46, -125), (s * 44, -40, -200)], [4, 14, 18], MUSCLE_HU)
