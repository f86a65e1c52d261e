"""Findings of the airways, heart, vessels, mediastinum, oesophagus and thyroid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctvlm.datasets.phantom import geometry as geo
from ctvlm.datasets.phantom.canvas import Canvas
from ctvlm.datasets.phantom.findings.base import Finding, Site, finding, mark_region
from ctvlm.datasets.phantom.shapes import draw_ellipsoid, draw_segments, draw_tube

TRACHEA, HEART, AORTA, MEDIASTINUM, ESOPHAGUS, THYROID = 6, 7, 8, 9, 10, 11
HEART_SITE = (Site(("heart",), ("the heart",), None, (-25.0, 60.0)),)


def _grow(*names: str):
    """A modifier that multiplies sizes by the finding's amount."""

    def modify(patient, f: Finding):
        keys = names or (f.site.key,)
        return replace(patient, size={**patient.size, **{k: f.amount for k in keys}})

    return modify


@finding(
    "cardiomegaly", label="Cardiomegaly", sites=HEART_SITE, sizes={"mild": (1.20, 1.27), "marked": (1.36, 1.48)}, section="heart",
    modify=_grow("heart"),
    steps=["The heart is enlarged, with {size} cardiomegaly.", "There is {size} cardiomegaly.", "Heart size is increased; {size} cardiomegaly.",
           "{Size} enlargement of the cardiac silhouette is seen.", "The transverse diameter of the heart shows {size} enlargement."],
    impressions=["{Size} cardiomegaly.", "{Size} enlargement of the heart.", "Enlarged heart, {size}."],
)  # fmt: skip
def draw_cardiomegaly(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, HEART)


@finding(
    "pericardial effusion", label="Pericardial effusion", sites=HEART_SITE, sizes={"small": (7.0, 9.5), "large": (16.0, 23.0)}, section="heart",
    steps=["There is a {size} pericardial effusion.", "A {size} amount of pericardial fluid surrounds the heart.",
           "{Size} effusion is present in the pericardial sac.", "Fluid is seen in the pericardium, in keeping with a {size} effusion."],
    impressions=["{Size} pericardial effusion.", "Pericardial effusion, {size}.", "{Size} amount of pericardial fluid."],
)  # fmt: skip
def draw_pericardial_effusion(canvas: Canvas, f: Finding) -> None:
    if not hasattr(canvas, "pericardium"):
        return
    box, outer = canvas.pericardium
    region = canvas.region[box]
    inside = ((region <= 5) | (region == MEDIASTINUM)) & (outer > 0) & (canvas.cavity[box] < -2)
    canvas.paint(box, np.abs(outer - f.amount / 2) - f.amount / 2, 12.0, region=HEART, lesion=f.lesion, inside=inside)


@finding(
    "coronary artery calcification", label="Coronary artery wall calcification", sites=HEART_SITE, section="heart",
    sizes={"mild": (2.0, 2.4), "severe": (3.8, 4.8)},
    steps=["{Size} calcification of the coronary arteries is seen.", "There are {size} calcific plaques in the coronary artery walls.",
           "The coronary arteries show {size} atherosclerotic calcification.", "{Size} coronary artery wall calcifications are present."],
    impressions=["{Size} coronary artery calcification.", "{Size} calcific atherosclerosis of the coronary arteries.", "Coronary calcification, {size}."],
)  # fmt: skip
def draw_coronary_calcification(canvas: Canvas, f: Finding) -> None:
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
    "aortic wall calcification", label="Arterial wall calcification", sites=AORTA_SITES, sizes={"mild": (5, 7), "severe": (16, 22)}, section="vessels",
    steps=["{Size} calcified plaques are seen in the wall of {loc}.", "There is {size} atherosclerotic wall calcification of {loc}.",
           "The wall of {loc} shows {size} calcification.", "{Size} mural calcification is present along {loc}."],
    impressions=["{Size} wall calcification of {loc}.", "{Size} calcific atherosclerosis of {loc}.", "Calcified plaques in {loc}, {size}."],
)  # fmt: skip
def draw_aortic_calcification(canvas: Canvas, f: Finding) -> None:
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
    "aortic aneurysm", section="vessels", sizes={"mild": (1.38, 1.5), "large": (1.8, 2.15)},
    sites=[Site(("aorta",), ("the ascending aorta",), "aorta_ascending", (30.0, 100.0)),
           Site(("aorta",), ("the descending thoracic aorta",), "aorta_descending", (-20.0, 90.0)),
           Site(("aorta",), ("the abdominal aorta", "the upper abdominal aorta"), "aorta_abdominal", (-92.0, -55.0))],
    modify=_grow(),
    steps=["There is {size} aneurysmal dilatation of {loc}.", "{Loc} is dilated, with {size} aneurysmal widening.",
           "{Size} aneurysm of {loc} is present.", "The calibre of {loc} is increased, in keeping with {size} aneurysmal dilatation."],
    impressions=["{Size} aneurysmal dilatation of {loc}.", "{Size} aneurysm of {loc}.", "Dilated calibre of {loc}, {size}."],
)  # fmt: skip
def draw_aneurysm(canvas: Canvas, f: Finding) -> None:
    points, radius, part = geo.aorta_path(canvas.patient)
    want = {"aorta_ascending": 0, "aorta_descending": 2, "aorta_abdominal": 3}[f.site.key]
    rows = np.flatnonzero(part == want)
    draw_tube(canvas, points[rows], radius[rows] + 1, None, lesion=f.lesion)


@finding(
    "lymphadenopathy", label="Lymphadenopathy", section="mediastinum", sizes={"mild": (8.5, 10.5), "bulky": (14.0, 18.0)}, weight=1.3,
    sites=[Site(("mediastinum",), ("the right paratracheal station", "the right paratracheal region"), (19, 0, 112), (80.0, 130.0)),
           Site(("mediastinum",), ("the subcarinal station", "the subcarinal region"), (2, -20, 74), (50.0, 95.0)),
           Site(("mediastinum",), ("the prevascular station", "the prevascular space"), (-12, 42, 104), (80.0, 125.0))],
    steps=["There are {size} enlarged lymph nodes in {loc}.", "{Size} lymphadenopathy is present in {loc}.",
           "Pathologically enlarged lymph nodes, {size}, are seen in {loc}.", "{Loc} contains {size} enlarged nodes."],
    impressions=["{Size} mediastinal lymphadenopathy in {loc}.", "{Size} enlarged lymph nodes in {loc}.", "Lymphadenopathy of {loc}, {size}."],
)  # fmt: skip
def draw_lymphadenopathy(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    hu = 42.0 if canvas.patient.phase == "non_contrast" else 75.0
    keep = lambda b: (canvas.region[b] == MEDIASTINUM) | (canvas.region[b] <= 5)  # noqa: E731
    for i in range(3):
        at = np.array(f.site.key) + canvas.patient.shift["arch"] * 0.5 + rng.normal(0, (4, 4, 6)) + (0, 0, 9 * (i - 1))
        radii = f.amount * rng.uniform(0.75, 1.1, 3)
        draw_ellipsoid(canvas, at, radii, hu, region=MEDIASTINUM, lesion=f.lesion, inside=keep)


@finding(
    "anterior mediastinal mass", section="mediastinum", sizes={"small": (13.0, 16.0), "large": (26.0, 34.0)}, weight=0.8,
    sites=[Site(("mediastinum",), ("the anterior mediastinum",), None, (60.0, 125.0))],
    steps=["A {size} soft tissue mass is seen in {loc}.", "There is a {size} mass in {loc}.", "{Loc} contains a {size} lobulated mass."],
    impressions=["{Size} mass in {loc}.", "{Size} anterior mediastinal mass.", "{Size} retrosternal soft tissue mass."],
)  # fmt: skip
def draw_anterior_mass(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    keep = lambda b: ((canvas.region[b] == MEDIASTINUM) | (canvas.region[b] <= 5)) & (canvas.cavity[b] < -2)  # noqa: E731
    center = np.array((rng.normal(0, 5), 50 - 0.2 * f.amount, 92))
    for i in range(3):
        at = center + (rng.normal(0, 0.3 * f.amount, 3) if i else 0)
        draw_ellipsoid(canvas, at, f.amount * rng.uniform(0.7, 1.1, 3), rng.uniform(40, 62), MEDIASTINUM, f.lesion, inside=keep)


@finding(
    "hiatal hernia", label="Hiatal hernia", section="mediastinum", sizes={"small": (15.0, 19.0), "large": (27.0, 35.0)},
    sites=[Site(("esophagus", "stomach"), ("the oesophageal hiatus", "the hiatus"), None, (-40.0, 40.0))],
    steps=["There is a {size} sliding hiatal hernia.", "A {size} hiatal hernia is present, with part of the stomach above the diaphragm.",
           "{Size} herniation of the stomach through the oesophageal hiatus is seen.", "Part of the stomach lies behind the heart: {size} hiatal hernia."],
    impressions=["{Size} hiatal hernia.", "Hiatal hernia, {size}.", "{Size} sliding hernia of the stomach."],
)  # fmt: skip
def draw_hiatal_hernia(canvas: Canvas, f: Finding) -> None:
    p = canvas.patient
    center = np.array((-14, -22 + 0.2 * f.amount, 4)) + p.shift["esophagus"]
    radii = f.amount * np.array((1.1, 0.9, 1.05))
    keep = lambda b: ~np.isin(canvas.region[b], (AORTA, 19, 12, 7))  # noqa: E731
    draw_ellipsoid(canvas, center, radii, p.hu["wall"] + 4, ESOPHAGUS, f.lesion, inside=keep)
    inner = lambda b: canvas.lesion[b] == f.lesion  # noqa: E731
    draw_ellipsoid(canvas, center, radii - 4, 20.0, inside=inner)
    gas = lambda b: (canvas.lesion[b] == f.lesion) & (canvas.y[b] > center[1] + 0.1 * f.amount)  # noqa: E731
    draw_ellipsoid(canvas, center, radii - 4, -920.0, inside=gas)


@finding(
    "esophageal wall thickening", section="mediastinum", sizes={"mild": (12.5, 14.0), "marked": (18.0, 22.0)},
    sites=[Site(("esophagus",), ("the upper thoracic oesophagus", "the proximal oesophagus"), 128, (105.0, 150.0)),
           Site(("esophagus",), ("the mid oesophagus", "the middle third of the oesophagus"), 68, (45.0, 90.0)),
           Site(("esophagus",), ("the distal oesophagus", "the lower third of the oesophagus"), 16, (-5.0, 40.0))],
    steps=["There is {size} wall thickening of {loc}.", "The wall of {loc} shows {size} thickening.", "{Loc} has a {size} circumferentially thickened wall.",
           "{Size} mural thickening is seen in {loc}."],
    impressions=["{Size} wall thickening of {loc}.", "{Size} mural thickening of {loc}, endoscopy advised.", "Thickened wall of {loc}, {size}."],
)  # fmt: skip
def draw_esophageal_thickening(canvas: Canvas, f: Finding) -> None:
    points, _ = geo.esophagus_path(canvas.patient)
    at = np.array([[np.interp(h, points[::-1, 2], points[::-1, i]) for i in range(3)] for h in np.linspace(f.site.key - 18, f.site.key + 18, 4)])
    keep = lambda b: ~np.isin(canvas.region[b], (AORTA, 19, 6, 7))  # noqa: E731
    hu = 44.0 if canvas.patient.phase == "non_contrast" else 68.0
    draw_tube(canvas, at, f.amount, hu, ESOPHAGUS, f.lesion, inside=keep)
    draw_segments(canvas, at[:-1], at[1:], 2.0, -700.0)


@finding(
    "tracheal stenosis", section="airways", sizes={"mild": (5.2, 5.8), "severe": (2.4, 3.2)},
    sites=[Site(("trachea",), ("the upper trachea", "the proximal trachea"), 152, (135.0, 170.0)),
           Site(("trachea",), ("the lower trachea", "the distal trachea"), 116, (98.0, 132.0))],
    steps=["There is {size} narrowing of {loc}.", "{Loc} shows {size} stenosis with wall thickening.", "{Size} luminal stenosis is seen in {loc}."],
    impressions=["{Size} stenosis of {loc}.", "{Size} tracheal narrowing, {loc}.", "Narrowed lumen of {loc}, {size}."],
)  # fmt: skip
def draw_tracheal_stenosis(canvas: Canvas, f: Finding) -> None:
    path = geo.trachea_path(canvas.patient)
    at = np.array([[np.interp(h, path[::-1, 2], path[::-1, i]) for i in range(3)] for h in np.linspace(f.site.key - 17, f.site.key + 17, 4)])
    keep = lambda b: canvas.region[b] == TRACHEA  # noqa: E731
    draw_tube(canvas, at, 12.0, 45.0, TRACHEA, f.lesion, inside=keep)
    draw_tube(canvas, at, f.amount, -960.0, inside=keep)


@finding(
    "tracheal diverticulum", section="airways", sizes={"small": (5.5, 7.0), "large": (10.0, 12.5)}, weight=0.8,
    sites=[Site(("trachea",), ("the right posterolateral wall of the trachea", "the right side of the upper trachea"), None, (135.0, 168.0))],
    steps=["There is a {size} air-filled diverticulum at {loc}.", "A {size} tracheal diverticulum is seen at {loc}.",
           "A {size} paratracheal air cyst lies at {loc}."],
    impressions=["{Size} tracheal diverticulum.", "{Size} right paratracheal air cyst.", "Tracheal diverticulum, {size}."],
)  # fmt: skip
def draw_tracheal_diverticulum(canvas: Canvas, f: Finding) -> None:
    path = geo.trachea_path(canvas.patient)
    at = np.array([np.interp(150, path[::-1, 2], path[::-1, i]) for i in range(3)])
    center = at + (8 + f.amount * 0.9, -6 - 0.3 * f.amount, 0)
    keep = lambda b: ~np.isin(canvas.region[b], (19, 10))  # noqa: E731
    radii = np.array((f.amount, f.amount, f.amount * 1.5))
    draw_ellipsoid(canvas, center, radii + 1.5, 30.0, inside=keep)
    draw_ellipsoid(canvas, center, radii, -985.0, TRACHEA, f.lesion, inside=keep)


THYROID_SIDES = [
    Site(("thyroid",), (f"the {side} thyroid lobe", f"the {side} lobe of the thyroid"), key, (168.0, 192.0))
    for side, key in (("right", 1), ("left", -1))
]


@finding(
    "thyroid nodule", section="neck", sizes={"small": (6.5, 8.0), "large": (12.0, 17.0)}, sites=THYROID_SIDES, weight=1.2,
    steps=["There is a {size} hypodense nodule in {loc}.", "{Loc} contains a {size} nodule.", "A {size} thyroid nodule is seen in {loc}."],
    impressions=["{Size} nodule in {loc}.", "{Size} thyroid nodule, {loc}, ultrasound advised.", "Hypodense nodule of {loc}, {size}."],
)  # fmt: skip
def draw_thyroid_nodule(canvas: Canvas, f: Finding) -> None:
    p = canvas.patient
    center = np.array((f.site.key * (12 + 6.5 * p.size["thyroid"] + 0.35 * f.amount), geo.spine_y(180) + 46, 180)) + p.shift["thyroid"]
    keep = lambda b: canvas.region[b] != TRACHEA  # noqa: E731
    draw_ellipsoid(canvas, center, f.amount * np.array((1, 1, 1.2)), 48.0, THYROID, f.lesion, inside=keep)


@finding(
    "goitre", section="neck", sizes={"mild": (1.35, 1.45), "marked": (1.7, 1.95)}, weight=0.8, modify=_grow("thyroid"),
    sites=[Site(("thyroid",), ("the thyroid gland",), None, (168.0, 192.0))],
    steps=["The thyroid gland is diffusely enlarged, with {size} goitre.", "There is {size} diffuse enlargement of the thyroid.",
           "{Size} goitre is present."],
    impressions=["{Size} goitre.", "{Size} diffuse thyroid enlargement.", "Enlarged thyroid gland, {size}."],
)  # fmt: skip
def draw_goitre(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, THYROID)
