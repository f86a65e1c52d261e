"""Findings of the heart and the aorta."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, Site, finding, grow, mark_region
from ctvlm.phantom.ids import HEART, MEDIASTINUM
from ctvlm.phantom.shapes import draw_ellipsoid, draw_segments, draw_tube

HEART_SITE = (Site(("heart",), ("the heart",), None, (-25.0, 60.0)),)


@finding(
    "cardiomegaly",
    label="Cardiomegaly",
    sites=HEART_SITE,
    sizes={"mild": (1.20, 1.27), "marked": (1.36, 1.48)},
    section="heart",
    modify=grow("heart"),
    weight=1.3,
    steps=[
        "The heart is enlarged, with {size} cardiomegaly.",
        "There is {size} cardiomegaly.",
        "Heart size is increased; {size} cardiomegaly.",
        "{Size} enlargement of the cardiac silhouette is seen.",
        "The transverse diameter of the heart shows {size} enlargement.",
    ],
    impressions=["{Size} cardiomegaly.", "{Size} enlargement of the heart.", "Enlarged heart, {size}."],
)
def _draw_cardiomegaly(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, HEART)


@finding(
    "pericardial effusion",
    label="Pericardial effusion",
    sites=HEART_SITE,
    sizes={"small": (7.0, 9.5), "large": (16.0, 23.0)},
    section="heart",
    steps=[
        "There is a {size} pericardial effusion.",
        "A {size} amount of pericardial fluid surrounds the heart.",
        "{Size} effusion is present in the pericardial sac.",
        "Fluid is seen in the pericardium, in keeping with a {size} effusion.",
    ],
    impressions=[
        "{Size} pericardial effusion.",
        "Pericardial effusion, {size}.",
        "{Size} amount of pericardial fluid.",
    ],
)
def _draw_pericardial_effusion(canvas: Canvas, f: Finding) -> None:
    if canvas.pericardium is None:
        return
    box, outer = canvas.pericardium
    region = canvas.region[box]
    inside = ((region <= 5) | (region == MEDIASTINUM)) & (outer > 0) & (canvas.cavity[box] < -2)
    canvas.paint(box, np.abs(outer - f.amount / 2) - f.amount / 2, 12.0, region=HEART, lesion=f.lesion, inside=inside)


@finding(
    "coronary artery calcification",
    label="Coronary artery wall calcification",
    sites=HEART_SITE,
    section="heart",
    sizes={"mild": (2.0, 2.4), "severe": (3.8, 4.8)},
    steps=[
        "{Size} calcification of the coronary arteries is seen.",
        "There are {size} calcific plaques in the coronary artery walls.",
        "The coronary arteries show {size} atherosclerotic calcification.",
        "{Size} coronary artery wall calcifications are present.",
    ],
    impressions=[
        "{Size} coronary artery calcification.",
        "{Size} calcific atherosclerosis of the coronary arteries.",
        "Coronary calcification, {size}.",
    ],
)
def _draw_coronary_calcification(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    paths = geo.coronary_paths(canvas.patient)
    for path in paths[: 1 if f.amount < 3 else 2]:
        for a, b in zip(path[:-1], path[1:], strict=True):
            start = a + (b - a) * rng.uniform(0, 0.2)
            end = a + (b - a) * rng.uniform(0.75, 1.0)
            draw_segments(canvas, [start], [end], f.amount, rng.uniform(550, 900), lesion=f.lesion)


AORTA_SITES = [
    Site(("aorta",), ("the aortic arch",), (1,), (90.0, 125.0)),
    Site(("aorta",), ("the descending thoracic aorta",), (2,), (-20.0, 90.0)),
    Site(("aorta",), ("the abdominal aorta", "the upper abdominal aorta"), (3,), (-92.0, -55.0)),
]


@finding(
    "aortic wall calcification",
    label="Arterial wall calcification",
    sites=AORTA_SITES,
    sizes={"mild": (5, 7), "severe": (16, 22)},
    section="vessels",
    weight=1.1,
    steps=[
        "{Size} calcified plaques are seen in the wall of {loc}.",
        "There is {size} atherosclerotic wall calcification of {loc}.",
        "The wall of {loc} shows {size} calcification.",
        "{Size} mural calcification is present along {loc}.",
    ],
    impressions=[
        "{Size} wall calcification of {loc}.",
        "{Size} calcific atherosclerosis of {loc}.",
        "Calcified plaques in {loc}, {size}.",
    ],
)
def _draw_aortic_calcification(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    points, radius, part = geo.aorta_path(canvas.patient)
    low, high = canvas.patient.template_z
    rows = [i for i in np.flatnonzero(np.isin(part, f.site.key)) if low - 15 < points[i, 2] < high + 15]
    for _ in range(int(f.amount)):
        i = int(rng.choice(rows[:-1] if len(rows) > 1 else rows))
        j = min(i + 1, len(points) - 1)
        t = rng.random()
        axis = (points[j] - points[i]) / max(np.linalg.norm(points[j] - points[i]), 1e-6)
        out = np.cross(axis, rng.normal(size=3))
        out /= np.linalg.norm(out)
        at = points[i] + (points[j] - points[i]) * t + out * (radius[i] - 0.5)
        draw_ellipsoid(canvas, at, rng.uniform(2.6, 4.2, 3) * (1, 1, 1.6), rng.uniform(600, 1000), lesion=f.lesion)


@finding(
    "aortic aneurysm",
    section="vessels",
    sizes={"mild": (1.38, 1.5), "large": (1.8, 2.15)},
    sites=[
        Site(("aorta",), ("the ascending aorta",), "aorta_ascending", (30.0, 100.0)),
        Site(("aorta",), ("the descending thoracic aorta",), "aorta_descending", (-20.0, 90.0)),
        Site(("aorta",), ("the abdominal aorta", "the upper abdominal aorta"), "aorta_abdominal", (-92.0, -55.0)),
    ],
    modify=grow(),
    steps=[
        "There is {size} aneurysmal dilatation of {loc}.",
        "{Loc} is dilated, with {size} aneurysmal widening.",
        "{Size} aneurysm of {loc} is present.",
        "The calibre of {loc} is increased, in keeping with {size} aneurysmal dilatation.",
    ],
    impressions=[
        "{Size} aneurysmal dilatation of {loc}.",
        "{Size} aneurysm of {loc}.",
        "Dilated calibre of {loc}, {size}.",
    ],
)
def _draw_aneurysm(canvas: Canvas, f: Finding) -> None:
    points, radius, part = geo.aorta_path(canvas.patient)
    want = {"aorta_ascending": 0, "aorta_descending": 2, "aorta_abdominal": 3}[f.site.key]
    rows = np.flatnonzero(part == want)
    draw_tube(canvas, points[rows], radius[rows] + 1, None, lesion=f.lesion)
