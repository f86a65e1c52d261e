"""Findings of the spleen, kidneys, pancreas and stomach."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.abdomen import spleen_distance
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, Site, finding, grow, mark_region, outside, within
from ctvlm.phantom.ids import AORTA, KIDNEY_LEFT, KIDNEY_RIGHT, LIVER, PANCREAS, SPINE, SPLEEN, STOMACH
from ctvlm.phantom.shapes import draw_ellipsoid, draw_tube

SPLEEN_SITE = (Site(("spleen",), ("the spleen",), None, (-80.0, -40.0)),)
STOMACH_SITE = (Site(("stomach",), ("the stomach",), None, (-85.0, -35.0)),)
KIDNEYS = [
    Site(("kidney_right",), ("the right kidney",), 1, (-132.0, -95.0)),
    Site(("kidney_left",), ("the left kidney",), -1, (-125.0, -85.0)),
]


@finding(
    "splenomegaly",
    sites=SPLEEN_SITE,
    sizes={"mild": (1.28, 1.36), "marked": (1.6, 1.8)},
    modify=grow("spleen"),
    section="abdomen",
    steps=[
        "The spleen is enlarged, with {size} splenomegaly.",
        "There is {size} splenomegaly.",
        "{Size} enlargement of the spleen is noted.",
    ],
    impressions=["{Size} splenomegaly.", "{Size} enlargement of the spleen.", "Enlarged spleen, {size}."],
)
def _draw_splenomegaly(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, SPLEEN)


@finding(
    "splenic lesion",
    sites=SPLEEN_SITE,
    sizes={"small": (9.5, 11.5), "large": (16.0, 20.0)},
    section="abdomen",
    weight=0.6,
    steps=[
        "A {size} hypodense lesion is seen in the spleen.",
        "There is a {size} low-density splenic lesion.",
        "The spleen contains a {size} hypodense focus.",
    ],
    impressions=[
        "{Size} splenic lesion.",
        "{Size} hypodense lesion of the spleen.",
        "Hypodense splenic focus, {size}.",
    ],
)
def _draw_splenic_lesion(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center, radii, _ = geo.spleen_frame(canvas.patient)
    points = rng.uniform(center - radii.max(), center + radii.max(), (3000, 3)).astype(np.float32)
    points = points[points[:, 2] > canvas.patient.template_z[0] + 10]
    x, y, z = points.T
    gauge, unit = geo.cavity_gauge(x, y, z)
    depth = -spleen_distance(x, y, z, (gauge - 1) * unit, canvas.patient)
    deep = np.flatnonzero(depth > min(f.amount * 0.7, depth.max() * 0.8))
    at = points[deep[0]]
    draw_ellipsoid(
        canvas, at, f.amount * rng.uniform(0.9, 1.1, 3), 8.0, lesion=f.lesion, inside=within(canvas, (SPLEEN,))
    )


@finding(
    "renal cyst",
    sites=KIDNEYS,
    sizes={"small": (9.0, 12.0), "large": (20.0, 28.0)},
    section="abdomen",
    weight=1.3,
    steps=[
        "There is a {size} simple cyst in {loc}.",
        "A {size} cortical cyst is seen in {loc}.",
        "{Loc} contains a {size} fluid-density cyst.",
        "A {size} exophytic cyst arises from {loc}.",
    ],
    impressions=["{Size} cyst in {loc}.", "{Size} simple renal cyst, {loc}.", "Cortical cyst of {loc}, {size}."],
)
def _draw_renal_cyst(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center, radii, _ = geo.kidney_frame(canvas.patient, f.site.key)
    low = canvas.patient.template_z[0] + 10
    dz = np.clip(rng.uniform(-0.5, 0.5) * radii[2], low - center[2], None)
    at = np.add(center, (f.site.key * (radii[0] * 0.9), rng.uniform(-0.1, 0.5) * radii[1], dz))
    region = KIDNEY_RIGHT if f.site.key > 0 else KIDNEY_LEFT
    free = lambda b: np.isin(canvas.region[b], (0, region, LIVER, SPLEEN)) & (canvas.cavity[b] < -2)  # noqa: E731
    draw_ellipsoid(canvas, at, f.amount * rng.uniform(0.9, 1.1, 3), 5.0, region, f.lesion, inside=free)


@finding(
    "renal stone",
    sites=KIDNEYS,
    sizes={"small": (3.5, 4.5), "large": (7.5, 10.0)},
    section="abdomen",
    steps=[
        "There is a {size} calculus in {loc}.",
        "A {size} stone is seen in the collecting system of {loc}.",
        "{Loc} contains a {size} hyperdense stone.",
    ],
    impressions=["{Size} stone in {loc}.", "{Size} nephrolithiasis of {loc}.", "Renal calculus, {size}, {loc}."],
)
def _draw_renal_stone(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center, radii, _ = geo.kidney_frame(canvas.patient, f.site.key)
    low = canvas.patient.template_z[0] + 10
    dz = np.clip(rng.uniform(-0.35, 0.35) * radii[2], low - center[2], None)
    at = np.add(center, (-f.site.key * 5, 2, dz))
    region = KIDNEY_RIGHT if f.site.key > 0 else KIDNEY_LEFT
    draw_ellipsoid(canvas, at, np.array((1, 1, 1.3)) * f.amount, rng.uniform(600, 1100), region, f.lesion)


@finding(
    "hydronephrosis",
    sites=KIDNEYS,
    sizes={"mild": (9.0, 11.0), "severe": (15.0, 18.0)},
    section="abdomen",
    weight=0.7,
    steps=[
        "There is {size} hydronephrosis of {loc}.",
        "The collecting system of {loc} shows {size} dilatation.",
        "{Size} pelvicalyceal dilatation is seen in {loc}.",
    ],
    impressions=[
        "{Size} hydronephrosis of {loc}.",
        "{Size} dilatation of the collecting system of {loc}.",
        "Hydronephrosis, {size}, {loc}.",
    ],
)
def _draw_hydronephrosis(canvas: Canvas, f: Finding) -> None:
    center, radii, turn = geo.kidney_frame(canvas.patient, f.site.key)
    region = KIDNEY_RIGHT if f.site.key > 0 else KIDNEY_LEFT
    pelvis = np.add(center, (-f.site.key * 12, 6, 0))
    size = np.array((f.amount * 1.35, f.amount, 2.2 * f.amount))
    draw_ellipsoid(canvas, pelvis, size, 6.0, region, f.lesion, turn=turn)
    for dz in (-0.4, 0.0, 0.4):
        draw_ellipsoid(
            canvas, np.add(center, (-f.site.key * 1, 2, dz * radii[2])), [f.amount * 0.62] * 3, 6.0, region, f.lesion
        )


PANCREAS_SITES = [
    Site(("pancreas",), (f"the pancreatic {part}", f"the {part} of the pancreas"), key, z)
    for part, key, z in (("head", 0.7, (-112.0, -90.0)), ("body", 2.5, (-100.0, -75.0)), ("tail", 4.3, (-85.0, -60.0)))
]


def _along_pancreas(canvas: Canvas, t: float) -> np.ndarray:
    points, _ = geo.pancreas_path(canvas.patient)
    return np.array([np.interp(t, np.arange(len(points)), points[:, i]) for i in range(3)])


@finding(
    "pancreatic cyst",
    sites=PANCREAS_SITES,
    sizes={"small": (9.0, 11.5), "large": (17.0, 23.0)},
    section="abdomen",
    weight=0.8,
    steps=[
        "There is a {size} cystic lesion in {loc}.",
        "A {size} pancreatic cyst is seen in {loc}.",
        "{Loc} contains a {size} cyst.",
    ],
    impressions=[
        "{Size} cystic lesion of {loc}.",
        "{Size} pancreatic cyst in {loc}.",
        "Cyst of {loc}, {size}, follow-up with MRI.",
    ],
)
def _draw_pancreatic_cyst(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    at = np.add(_along_pancreas(canvas, f.site.key), (0, 0.2 * f.amount, 0))
    free = outside(canvas, (AORTA, SPINE, KIDNEY_RIGHT, KIDNEY_LEFT))
    radii = f.amount * rng.uniform(0.9, 1.1, 3)
    draw_ellipsoid(canvas, at, radii + 1.5, canvas.patient.hu["pancreas"], PANCREAS, f.lesion, inside=free)
    draw_ellipsoid(canvas, at, radii, 3.0, PANCREAS, f.lesion, inside=free)


@finding(
    "pancreatic calcification",
    sites=[Site(("pancreas",), ("the pancreas",), None, (-100.0, -70.0))],
    sizes={"scattered": (6, 8), "extensive": (18, 24)},
    section="abdomen",
    weight=0.5,
    steps=[
        "{Size} parenchymal calcifications are seen in the pancreas.",
        "There are {size} pancreatic calcifications, suggesting chronic pancreatitis.",
        "The pancreas shows {size} coarse calcification.",
    ],
    impressions=[
        "{Size} pancreatic calcification, chronic pancreatitis considered.",
        "{Size} calcifications of the pancreas.",
        "Chronic calcifying pancreatitis, {size}.",
    ],
)
def _draw_pancreatic_calcification(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    for t in rng.uniform(1.0, 4.6, int(f.amount)):
        at = _along_pancreas(canvas, t) + rng.normal(0, 2.5, 3)
        draw_ellipsoid(canvas, at, rng.uniform(2.2, 3.6, 3), rng.uniform(500, 900), lesion=f.lesion)


@finding(
    "gastric wall thickening",
    sites=STOMACH_SITE,
    sizes={"mild": (9.0, 11.0), "marked": (16.0, 19.0)},
    section="abdomen",
    weight=0.7,
    steps=[
        "The gastric wall shows {size} thickening.",
        "There is {size} thickening of the stomach wall.",
        "{Size} diffuse gastric wall thickening is present.",
    ],
    impressions=[
        "{Size} gastric wall thickening.",
        "{Size} thickened stomach wall, endoscopy advised.",
        "Thickening of the gastric wall, {size}.",
    ],
)
def _draw_gastric_thickening(canvas: Canvas, f: Finding) -> None:
    points, radius = geo.stomach_path(canvas.patient)
    hu = canvas.patient.hu["wall"] + 6
    inside = lambda b: canvas.region[b] == STOMACH  # noqa: E731
    keep = canvas.hu.copy()
    draw_tube(canvas, points, radius, hu, lesion=f.lesion, inside=inside)
    # The remaining lumen keeps its contents.
    core = np.zeros_like(canvas.lesion)
    hold, canvas.lesion = canvas.lesion, core
    draw_tube(canvas, points, np.maximum(radius - f.amount, 4), None, lesion=1, inside=inside)
    canvas.lesion = hold
    canvas.hu[core > 0] = keep[core > 0]
    canvas.lesion[(core > 0) & (canvas.lesion == f.lesion)] = 0


@finding(
    "gastric distension",
    sites=STOMACH_SITE,
    sizes={"moderate": (1.26, 1.32), "marked": (1.45, 1.55)},
    modify=grow("stomach"),
    section="abdomen",
    weight=0.7,
    steps=[
        "The stomach shows {size} distension.",
        "There is {size} gastric distension.",
        "{Size} distension of the stomach is seen.",
    ],
    impressions=["{Size} gastric distension.", "{Size} distension of the stomach.", "Distended stomach, {size}."],
)
def _draw_gastric_distension(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, STOMACH)
