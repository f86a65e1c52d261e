"""Surfaces of the template as functions of template coordinates (mm): contours, diaphragm, fissures, centre lines.

The same functions draw the anatomy on the voxel grid and position findings at single points, so the position of a
lesion never depends on the shape of the volume.
"""

from __future__ import annotations

import numpy as np

from ctvlm.phantom.patient import Patient
from ctvlm.phantom.shapes import ellipsoid, superellipse

# Cavity within the ribs and the abdominal wall. Rows: z, half width, centre y, half depth.
CAVITY = np.array([
    (-260, 132, 12, 90), (-170, 138, 12, 91), (-120, 142, 11, 94), (-60, 149, 5, 99), (-20, 151, 1, 103),
    (20, 149, -4, 101), (60, 142, -9, 94), (95, 125, -17, 80), (120, 104, -25, 66), (140, 81, -31, 52),
    (153, 58, -35, 39), (162, 36, -38, 26), (168, 12, -40, 10), (172, 2, -40, 2), (300, 2, -40, 2),
], np.float32)  # fmt: skip
# Outer surface of the muscles; subcutaneous fat surrounds it.
MUSCLE = np.array([
    (-260, 145, -3, 112), (-170, 152, -3, 114), (-120, 155, -3, 116), (-60, 161, -4, 121), (0, 162, -7, 120),
    (60, 169, -17, 113), (100, 180, -25, 104), (130, 187, -25, 91), (150, 189, -22, 80), (168, 180, -20, 74),
    (180, 142, -19, 69), (192, 92, -19, 63), (202, 68, -19, 58), (212, 58, -19, 55), (300, 55, -19, 53),
], np.float32)  # fmt: skip
# Vertebral bodies. Rows: z, centre y, half width.
SPINE = np.array([
    (-260, -38, 25), (-170, -42, 24), (-110, -45, 22), (-45, -48, 20), (0, -61, 18), (62, -69, 17), (110, -63, 16),
    (140, -54, 15), (165, -46, 14), (190, -38, 12), (215, -33, 12), (300, -30, 12),
], np.float32)  # fmt: skip
# z range of each vertebra, from L3 up to C5; discs lie at the boundaries.
LEVELS = {"L3": (-195, -160), "L2": (-160, -126), "L1": (-126, -94), "T12": (-94, -65), "T11": (-65, -38),
          "T10": (-38, -12), "T9": (-12, 13), "T8": (13, 36), "T7": (36, 58), "T6": (58, 79), "T5": (79, 99),
          "T4": (99, 118), "T3": (118, 136), "T2": (136, 154), "T1": (154, 171), "C7": (171, 186), "C6": (186, 200),
          "C5": (200, 214)}  # fmt: skip
DISCS = np.array(sorted({z for pair in LEVELS.values() for z in pair}), np.float32)

LOBES_RIGHT, LOBES_LEFT = (1, 2, 3), (4, 5)
HILUM = {1: np.array((40.0, -14.0, 66.0)), -1: np.array((-42.0, -18.0, 68.0))}


def profile(table: np.ndarray, z: np.ndarray | np.floating) -> list[np.ndarray]:
    """Columns of a table, interpolated at heights ``z``; each has the shape of ``z``."""
    return [np.interp(z, table[:, 0], column).astype(np.float32) for column in table[:, 1:].T]


def cavity_gauge(x, y, z) -> tuple[np.ndarray, np.ndarray]:
    """Gauge of the cavity (1 on its wall, smaller inside) and the length (mm) of one gauge unit."""
    a, yc, b = profile(CAVITY, z)
    return superellipse(x / a, (y - yc) / b), 0.5 * (a + b)


def rib_comb(y, z) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position of points near the chest wall relative to the ribs, which slope down towards the front.

    Returns:
        How far anterior the point is (0..1), distance along z to the middle of the nearest rib (mm), and height of
        that rib at the spine (mm).
    """
    _, yc, b = profile(CAVITY, z)
    turn = np.clip((y - yc) * (np.float32(0.5) / b) + np.float32(0.5), 0, 1)
    height = turn * (88 * np.clip(1.05 - (z - 60) * np.float32(0.004), 0.6, 1.1)).astype(np.float32) + z
    comb = np.mod(height, np.float32(26.5))
    return turn, np.abs(comb - np.float32(13.25)), height


def diaphragm(x, y, patient: Patient) -> np.ndarray:
    """Height z (mm) of the diaphragm at (x, y): a dome on each side, steep towards the ribs and flat medially."""
    right, left = patient.dome
    side = x > 0
    u = np.abs(x) - np.float32(74)
    u = u * np.where(u > 0, np.float32(1 / 88), np.float32(1 / 190))
    v = y - np.float32(18)
    v = v * np.where(v > 0, np.float32(1 / 132), np.float32(1 / 122))
    fall = (u * u + v * v) * np.float32(92)
    return np.where(side, np.float32(right), np.float32(left)) - fall


def lobe_map(x, y, z, patient: Patient) -> np.ndarray:
    """Lobe id (1..5) of points in the lungs."""
    right_oblique, horizontal, left_oblique = patient.fissure
    bow = (x * x) * np.float32(1 / 1600)
    oblique = np.float32(30) - np.float32(0.72) * (y + np.float32(15)) - bow
    lower = z < oblique + np.where(x > 0, np.float32(right_oblique), np.float32(left_oblique + 6))
    upper = z > np.float32(47 + horizontal) - np.float32(0.08) * (y - np.float32(30))
    right = np.where(lower, np.uint8(3), np.where(upper, np.uint8(1), np.uint8(2)))
    return np.where(x > 0, right, np.where(lower, np.uint8(5), np.uint8(4)))


def fissure_distance(x, y, z, patient: Patient) -> np.ndarray:
    """Distance (mm) of points in the lungs to the nearest fissure."""
    right_oblique, horizontal, left_oblique = patient.fissure
    shift = np.where(x > 0, np.float32(right_oblique), np.float32(left_oblique + 6))
    oblique = z - (np.float32(30) - np.float32(0.72) * (y + np.float32(15)) - x * x * np.float32(1 / 1600) + shift)
    minor = np.abs(z - (np.float32(47 + horizontal) - np.float32(0.08) * (y - np.float32(30))))
    minor = np.where((x > 0) & (oblique > 0), minor, np.float32(99))
    return np.minimum(np.abs(oblique) * np.float32(0.81), minor)


def mediastinum_distance(x, y, z) -> np.ndarray:
    """Distance to the mediastinal fat: a spindle behind the sternum, widest around the great vessels."""
    half = np.interp(z, (-40, 20, 60, 110, 150, 190), (24, 26, 36, 34, 33, 30)).astype(np.float32)
    center = np.interp(z, (-40, 20, 60, 110, 150, 190), (-18, -14, 0, -2, -10, -8)).astype(np.float32)
    depth = np.interp(z, (-40, 20, 60, 110, 150, 190), (52, 54, 86, 72, 52, 42)).astype(np.float32)
    u, v = (x + np.float32(1)) / half, (y - center) / depth
    return (np.sqrt(u * u + v * v) - 1) * half


def heart_frame(patient: Patient) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre, radii and rotation (radians about z) of the heart."""
    size = patient.size["heart"]
    center = np.array((-21.0, 32.0, 20.0)) + patient.shift["heart"]
    # An enlarged heart extends to the left and rests on the diaphragm.
    center += np.array((-26.0, 4.0, 10.0)) * (size - 1)
    return center, np.array((65.0, 46.0, 45.0)) * size, -0.42


def lung_distance(x, y, z, patient: Patient) -> np.ndarray:
    """Distance to the aerated lungs, bounded by pleura, diaphragm, mediastinum, heart and spine; to place findings."""
    gauge, unit = cavity_gauge(x, y, z)
    distance = np.maximum((gauge - 1) * unit, (diaphragm(x, y, patient) - z) * np.float32(0.75))
    distance = np.maximum(distance, -mediastinum_distance(x, y, z))
    center, radii, turn = heart_frame(patient)
    distance = np.maximum(distance, -ellipsoid(x, y, z, center, radii + 3, turn))
    yc, half = profile(SPINE, z)
    return np.maximum(distance, half + 6 - np.hypot(x, y - yc))


def lung_points(
    patient: Patient,
    lobes: tuple[int, ...],
    count: int,
    rng: np.random.Generator,
    margin: float,
    z: tuple[float, float],
) -> np.ndarray:
    """Sample ``count`` points (N, 3) uniformly in the given lobes, up to ``margin`` mm away from their borders.

    Raises:
        ValueError: no space in these lobes within ``z``.
    """
    low, high = (-150, -100, max(-100.0, z[0])), (150, 100, min(165.0, z[1]))
    points = rng.uniform(low, high, (6000, 3)).astype(np.float32)
    x, y, zz = points.T
    depth = -lung_distance(x, y, zz, patient)
    in_lobe = np.isin(lobe_map(x, y, zz, patient), lobes)
    fissure = fissure_distance(x, y, zz, patient)
    for m in (margin, margin * 0.6, margin * 0.3, 0.0):
        good = np.flatnonzero(in_lobe & (depth > m) & (fissure > m * 0.7))
        if len(good) >= max(count, 3):
            return points[good[:count]].astype(np.float64)
    raise ValueError(f"no space in lung lobes {lobes} within z = {z[0]:.0f}..{z[1]:.0f} mm")


def aorta_path(patient: Patient) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre line (N, 3), radius (N,) and part (0 ascending, 1 arch, 2 descending, 3 abdominal) of the aorta."""
    ys = lambda z, gap: float(np.interp(z, SPINE[:, 0], SPINE[:, 1])) + gap  # noqa: E731
    arch = patient.shift["arch"]
    rows = [
        (8, 24, 40, 15, 0), (16, 28, 56, 15.5, 0), (20, 28, 74, 15.5, 0), (18, 22, 92, 15, 0), (10, 8, 107, 14, 1),
        (-4, -12, 113, 13.5, 1), (-16, -32, 108, 13, 1), (-23, -46, 95, 12.5, 2), (-25, ys(75, 15), 75, 12.5, 2),
        (-25, ys(50, 16), 50, 12, 2), (-22, ys(20, 22), 20, 12, 2), (-16, ys(-10, 28), -10, 11.5, 2),
        (-8, ys(-35, 31), -35, 11.5, 2), (-4, ys(-60, 32), -60, 11, 3), (-4, ys(-100, 33), -100, 10.5, 3),
        (-5, ys(-145, 34), -145, 10, 3), (-5, ys(-200, 34), -200, 9.5, 3),
    ]  # fmt: skip
    path = np.array(rows)
    points, radius, part = path[:, :3].copy(), path[:, 3].copy(), path[:, 4].astype(int)
    points[part <= 1] += arch
    points[part == 2] += arch * (1, 0.3, 0)
    names = ("aorta_ascending", "aorta_ascending", "aorta_descending", "aorta_abdominal")
    radius *= [patient.size[names[p]] if p != 1 else 1.0 for p in part]
    return points, radius, part


def stomach_path(patient: Patient) -> tuple[np.ndarray, np.ndarray]:
    """Centre line and outer radius of the stomach, from the fundus to the antrum."""
    size = patient.size["stomach"]
    drop = patient.dome[1] + 13
    points = np.array([(-84, -14, -42 + drop), (-86, 8, -52 + drop), (-76, 34, -66 + drop), (-52, 54, -80),
                       (-20, 62, -90), (14, 56, -88)], np.float64)  # fmt: skip
    return points + patient.shift["stomach"], np.array([27, 30, 29, 25, 19, 13]) * size


def pancreas_path(patient: Patient) -> tuple[np.ndarray, np.ndarray]:
    """Centre line and radius of the pancreas, from head to tail."""
    points = np.array([(34, 14, -112), (32, 22, -98), (8, 28, -88), (-22, 20, -82), (-52, 2, -74), (-84, -22, -66)])
    return points + patient.shift["pancreas"], np.array([13, 14, 10.5, 10, 10, 8]) * patient.size["pancreas"]


def esophagus_path(patient: Patient) -> tuple[np.ndarray, np.ndarray]:
    """Centre line and outer radius of the oesophagus, from the neck to the cardia."""
    ys = lambda z, gap: float(np.interp(z, SPINE[:, 0], SPINE[:, 1])) + gap  # noqa: E731
    points = np.array([(-4, ys(214, 21), 214), (-6, ys(170, 24), 170), (-7, ys(130, 24), 130), (-4, ys(92, 27), 92),
                       (-3, ys(60, 29), 60), (-4, ys(25, 36), 25), (-12, ys(0, 46), 0), (-22, -2, -18),
                       (-44, 0, -34), (-62, 2, -44)], np.float64)  # fmt: skip
    radius = np.array([7, 7.5, 8, 8, 8, 8.5, 9, 9, 9, 9]) * patient.size["esophagus"]
    return points + patient.shift["esophagus"], radius


def kidney_frame(patient: Patient, side: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre, radii and rotation of a kidney (side 1 right, -1 left)."""
    name = "kidney_right" if side > 0 else "kidney_left"
    center = np.array((64.0, -40.0, -119.0)) if side > 0 else np.array((-62.0, -42.0, -106.0))
    return center + patient.shift[name], np.array((25, 30, 50)) * patient.size[name], -0.75 * side


def spleen_frame(patient: Patient) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre, radii and rotation of the spleen."""
    size = patient.size["spleen"]
    center = np.array((-103.0, -42.0, -60.0 + patient.dome[1] + 13)) + patient.shift["spleen"]
    center += np.array((10.0, 14.0, -30.0)) * max(size - 1.15, 0)
    return center, np.array((33, 54, 49)) * size, 0.62


def gallbladder_frame(patient: Patient) -> tuple[np.ndarray, np.ndarray]:
    """Centre and radii of the gallbladder."""
    size = patient.size["gallbladder"]
    return np.array((66.0, 50.0, -86.0)) + patient.shift["gallbladder"], np.array((15, 25, 22)) * size


def spine_y(z: float) -> float:
    """Centre y of the vertebral body at height z."""
    return float(np.interp(z, SPINE[:, 0], SPINE[:, 1]))


def trachea_path(patient: Patient) -> np.ndarray:
    """Centre line (N, 3) of the trachea, from the neck to the carina."""
    shift = patient.shift["trachea"].astype(np.float64)
    gap = ((90, 130, 170, 215), (36, 37, 44, 47))
    rows = [(0, 216, 0), (1, 165, 1), (1, 125, 1), (2, 92, 1)]
    points = np.array([(x, spine_y(z) + np.interp(z, *gap), z) for x, z, _ in rows])
    return points + np.array([moved for _, _, moved in rows])[:, None] * shift


def coronary_paths(patient: Patient) -> tuple[np.ndarray, np.ndarray]:
    """Centre lines of the anterior descending and the right coronary artery, in the grooves of the heart."""
    center, radii, turn = heart_frame(patient)
    scale = radii / np.array((65.0, 46.0, 45.0))
    c, s = np.cos(turn), np.sin(turn)

    def place(*offsets):
        u, v, w = (np.array(offsets) * scale).T
        return center + np.stack((c * u - s * v, s * u + c * v, w), axis=1)

    left = place((-4, 20, 38), (-14, 36, 18), (-32, 32, -6), (-50, 20, -20))
    return left, place((20, 30, 28), (26, 34, 4), (22, 28, -24))
