"""Findings of the spine and the rib cage."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, Site, finding
from ctvlm.phantom.ids import RIB_CAGE, SPINE
from ctvlm.phantom.shapes import draw_ellipsoid

LEVEL_SITES = [
    Site(("spine",), ("the upper thoracic spine", "an upper thoracic vertebra"), ("T3", "T4", "T5"), (85.0, 135.0)),
    Site(("spine",), ("the mid thoracic spine", "a mid thoracic vertebra"), ("T7", "T8"), (15.0, 60.0)),
    Site(("spine",), ("the lower thoracic spine", "a lower thoracic vertebra"), ("T10", "T11"), (-65.0, -12.0)),
    Site(("spine",), ("the thoracolumbar junction",), ("T12", "L1"), (-92.0, -70.0)),
]
RIB_SITES = [
    Site(("rib_cage",), (f"a {side} {place} rib", f"the {place} part of a {side} rib"), (key, angle), (-40.0, 95.0))
    for side, key in (("right", 1), ("left", -1))
    for place, angle in (("lateral", 0.15), ("posterior", -0.95))
]


def _vertebra(canvas: Canvas, f: Finding, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Centre, half width and half height of a vertebral body of the site, in the scan if possible."""
    low, high = canvas.patient.template_z
    names = [n for n in f.site.key if geo.LEVELS[n][0] > low + 6 and geo.LEVELS[n][1] < high - 6] or list(f.site.key)[
        -1:
    ]
    z0, z1 = geo.LEVELS[str(rng.choice(names))]
    z = (z0 + z1) / 2
    half = float(np.interp(z, geo.SPINE[:, 0], geo.SPINE[:, 2])) * canvas.patient.size["vertebra"]
    return np.array((0.0, geo.spine_y(z), z)), half, (z1 - z0) / 2


@finding(
    "vertebral compression fracture",
    sites=LEVEL_SITES,
    sizes={"mild": (0.35, 0.45), "severe": (0.75, 0.9)},
    section="bones",
    weight=1.2,
    steps=[
        "There is a {size} compression fracture in {loc}.",
        "{Size} vertebral height loss is seen in {loc}.",
        "A {size} wedge compression fracture is present in {loc}.",
    ],
    impressions=[
        "{Size} compression fracture in {loc}.",
        "{Size} vertebral collapse, {loc}.",
        "Compression fracture of {loc}, {size}.",
    ],
)
def _draw_compression(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center, half, tall = _vertebra(canvas, f, rng)
    box = canvas.box(center - (half + 8, half + 8, tall), np.add(center, (half + 8, half + 8, tall)))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    front = np.clip((y - center[1]) / (half * np.float32(0.84)) * np.float32(0.5) + np.float32(0.5), 0, 1)
    lost = center[2] + tall - 3 - 2 * tall * np.float32(f.amount) * (np.float32(0.35) + np.float32(0.65) * front)
    body = np.sqrt(np.square(x / half) + np.square((y - center[1]) / (half * np.float32(0.84)))) - 1
    inside = (body < 0.08) & (canvas.region[box] == SPINE)
    canvas.paint(
        box, lost - z, 45.0, lesion=f.lesion, inside=inside & (z < center[2] + tall), edge=max(2.0, 0.4 * canvas.dz)
    )
    bulge = np.sqrt(np.square(x / (half + 4)) + np.square((y - center[1]) / (half * np.float32(0.84) + 4))) - 1
    dense = (bulge < 0) & (z < lost) & (z > center[2] - tall)
    canvas.paint(box, np.abs(z - lost + 5) - 5.5, 620.0, region=SPINE, lesion=f.lesion, inside=dense)


@finding(
    "sclerotic bone lesion",
    sites=LEVEL_SITES,
    sizes={"small": (7.0, 8.5), "large": (12.0, 15.0)},
    section="bones",
    steps=[
        "A {size} sclerotic lesion is seen in {loc}.",
        "There is a {size} osteoblastic focus in {loc}.",
        "{Loc} contains a {size} sclerotic focus.",
    ],
    impressions=[
        "{Size} sclerotic lesion in {loc}.",
        "{Size} osteoblastic lesion of {loc}, metastasis not excluded.",
        "Sclerotic focus, {size}, {loc}.",
    ],
)
def _draw_sclerotic(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center, half, tall = _vertebra(canvas, f, rng)
    at = center + rng.normal(0, 3, 3) * (1, 1, 0.4)
    draw_ellipsoid(canvas, at, (f.amount, f.amount, max(f.amount, tall * 0.75)), 950.0, SPINE, f.lesion)


@finding(
    "lytic bone lesion",
    sites=LEVEL_SITES,
    sizes={"small": (7.5, 9.0), "large": (13.0, 17.0)},
    section="bones",
    weight=0.7,
    steps=[
        "A {size} lytic lesion is seen in {loc}.",
        "There is a {size} osteolytic focus in {loc}.",
        "{Loc} shows a {size} destructive lytic lesion.",
    ],
    impressions=[
        "{Size} lytic lesion in {loc}.",
        "{Size} osteolytic lesion of {loc}, suspicious for metastasis.",
        "Bone destruction, {size}, {loc}.",
    ],
)
def _draw_lytic(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center, half, tall = _vertebra(canvas, f, rng)
    at = np.add(center, (rng.choice([-1, 1]) * 0.3 * half, rng.normal(0, 3), 0))
    draw_ellipsoid(canvas, at, (f.amount, f.amount, max(f.amount, tall * 0.75)), 45.0, SPINE, f.lesion)


def _rib_point(canvas: Canvas, f: Finding, rng: np.random.Generator) -> np.ndarray:
    """Sample a point on a rib."""
    side, level = f.site.key
    for _ in range(60):
        z = rng.uniform(-30, 90)
        a, yc, b = (float(v) for v in geo.profile(geo.CAVITY, np.float32(z)))
        s = np.clip(level + rng.normal(0, 0.05), -0.95, 0.95)
        # Solve the gauge for the x of the cavity wall at this y.
        y = yc + s * b
        xs = np.linspace(0, a * 1.1, 200, dtype=np.float32)
        gauge, unit = geo.cavity_gauge(xs, np.float32(y), np.float32(z))
        x = float(xs[np.abs((gauge - 1) * unit - 5).argmin()])
        if abs(geo.rib_comb(np.float32(y), np.float32(z))[1]) < 2.5 and x > 40:
            return np.array((side * x, y, z))
    return np.array((side * x, y, z))


@finding(
    "rib fracture",
    sites=RIB_SITES,
    sizes={"healed": (8.5, 10.5), "displaced": (12.0, 15.0)},
    section="bones",
    weight=0.6,
    steps=[
        "There is a {size} fracture of {loc}.",
        "A {size} fracture line is seen in {loc}.",
        "{Loc} shows a {size} fracture with callus.",
    ],
    impressions=["{Size} fracture of {loc}.", "{Size} rib fracture, {loc}.", "Fracture of {loc}, {size}."],
)
def _draw_rib_fracture(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    at = _rib_point(canvas, f, rng)
    draw_ellipsoid(canvas, at, (f.amount, f.amount, f.amount), 780.0, RIB_CAGE, f.lesion)
    if f.size == "displaced":
        draw_ellipsoid(canvas, at, (f.amount * 0.4, f.amount * 0.5, f.amount), 40.0, RIB_CAGE)


@finding(
    "expansile rib lesion",
    sites=RIB_SITES,
    sizes={"small": (11.0, 14.0), "large": (20.0, 26.0)},
    section="bones",
    weight=0.6,
    steps=[
        "A {size} expansile lytic lesion is seen in {loc}.",
        "There is a {size} soft tissue mass destroying {loc}.",
        "{Loc} contains a {size} expansile lesion.",
    ],
    impressions=[
        "{Size} expansile lesion of {loc}.",
        "{Size} destructive lesion of {loc}.",
        "Lytic lesion of {loc}, {size}.",
    ],
)
def _draw_rib_lesion(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    at = _rib_point(canvas, f, rng)
    draw_ellipsoid(canvas, at, f.amount * rng.uniform(0.9, 1.1, 3), 62.0, RIB_CAGE, f.lesion)
