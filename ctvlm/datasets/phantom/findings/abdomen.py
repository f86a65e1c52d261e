"""Findings of the upper abdomen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctvlm.datasets.phantom import geometry as geo
from ctvlm.datasets.phantom.abdomen import liver_distance
from ctvlm.datasets.phantom.canvas import Canvas
from ctvlm.datasets.phantom.findings.base import Finding, Site, finding, mark_region
from ctvlm.datasets.phantom.findings.mediastinum import _grow
from ctvlm.datasets.phantom.shapes import draw_ellipsoid, draw_tube

LIVER, GALLBLADDER, SPLEEN, STOMACH, PANCREAS = 12, 13, 14, 15, 16
ABDOMEN = dict(section="abdomen")
LIVER_SITE = Site(("liver",), ("the liver",), (-60, 140), (-60.0, -10.0))
LIVER_LOBES = [
    Site(("liver",), ("the right hepatic lobe", "the right lobe of the liver"), (45, 140), (-60.0, -10.0)),
    Site(("liver",), ("the left hepatic lobe", "the left lobe of the liver"), (-40, 22), (-50.0, -15.0)),
]
SPLEEN_SITE = (Site(("spleen",), ("the spleen",), None, (-80.0, -40.0)),)
STOMACH_SITE = (Site(("stomach",), ("the stomach",), None, (-85.0, -35.0)),)
GALLBLADDER_SITE = (Site(("gallbladder",), ("the gallbladder",), None, (-92.0, -72.0)),)
KIDNEYS = [
    Site(("kidney_right",), ("the right kidney",), 1, (-132.0, -95.0)),
    Site(("kidney_left",), ("the left kidney",), -1, (-125.0, -85.0)),
]


def _liver_points(canvas: Canvas, f: Finding, count: int, margin: float) -> np.ndarray:
    p = canvas.patient
    rng = np.random.default_rng(f.seed)
    low, high = f.site.key
    bottom = max(-110.0, p.template_z[0] + 8)
    points = rng.uniform((low, -80, bottom), (high, 95, -4), (4000, 3)).astype(np.float32)
    x, y, z = points.T
    gauge, unit = geo.cavity_gauge(x, y, z)
    depth = -liver_distance(x, y, z, (gauge - 1) * unit, p)
    for m in (margin, margin * 0.6, margin * 0.3, 0.0):
        good = np.flatnonzero(depth > m)
        if len(good) >= count:
            return points[good[:count]].astype(np.float64)
    raise ValueError(f"no room in the liver between x = {low} and {high} mm")


def _within(canvas: Canvas, region: int):
    return lambda box: canvas.region[box] == region


def _dark(canvas: Canvas, name: str, drop: float, enhanced_drop: float) -> float:
    """HU of a lesion that enhances less than its organ."""
    p = canvas.patient
    return p.hu[name] - (drop if p.phase == "non_contrast" else enhanced_drop)


def _fatten(patient, f: Finding):
    return replace(patient, hu={**patient.hu, "liver": patient.hu["liver"] - f.amount})


@finding(
    "hepatic steatosis", sites=(LIVER_SITE,), sizes={"mild": (26.0, 34.0), "severe": (55.0, 70.0)}, modify=_fatten, weight=1.2, **ABDOMEN,
    steps=["The liver shows {size} diffuse fatty infiltration.", "Liver attenuation is diffusely decreased, in keeping with {size} steatosis.",
           "There is {size} hepatic steatosis.", "{Size} hepatosteatosis is seen, the parenchyma being darker than expected."],
    impressions=["{Size} hepatic steatosis.", "{Size} fatty liver.", "Hepatosteatosis, {size}."],
)  # fmt: skip
def draw_steatosis(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, LIVER)


@finding(
    "hepatic cyst", sites=LIVER_LOBES, sizes={"small": (9.0, 12.0), "large": (20.0, 30.0)}, **ABDOMEN,
    steps=["There is a {size} simple cyst in {loc}.", "A {size} hypodense cyst is seen in {loc}.", "{Loc} contains a {size} cyst of fluid density.",
           "A {size} well-circumscribed cystic lesion is present in {loc}."],
    impressions=["{Size} hepatic cyst in {loc}.", "{Size} cyst of {loc}.", "Simple cyst, {size}, {loc}."],
)  # fmt: skip
def draw_liver_cyst(canvas: Canvas, f: Finding) -> None:
    center = _liver_points(canvas, f, 1, f.amount * 0.9)[0]
    draw_ellipsoid(canvas, center, np.array((1, 1, 0.95)) * f.amount, 6.0, lesion=f.lesion, inside=_within(canvas, LIVER))


@finding(
    "liver metastases", sites=[replace(LIVER_LOBES[0], key=(20, 140)), LIVER_SITE], sizes={"few": (3, 4), "numerous": (11, 15)}, **ABDOMEN,
    steps=["{Size} hypodense lesions suspicious for metastases are seen in {loc}.", "There are {size} metastatic lesions in {loc}.",
           "{Loc} contains {size} ill-defined hypodense masses, suspicious for metastatic disease."],
    impressions=["{Size} liver metastases in {loc}.", "{Size} hypodense masses of {loc}, suspicious for metastases.", "Hepatic metastatic disease, {size} lesions, {loc}."],
)  # fmt: skip
def draw_liver_metastases(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed + 1)
    hu = _dark(canvas, "liver", 34, 52)
    for at in _liver_points(canvas, f, int(f.amount), 9):
        radii = rng.uniform(8, 15) * rng.uniform(0.85, 1.15, 3)
        draw_ellipsoid(canvas, at, radii, hu, lesion=f.lesion, inside=_within(canvas, LIVER), edge=max(4.0, canvas.edge))
        draw_ellipsoid(canvas, at, radii * 0.5, hu - 12, inside=_within(canvas, LIVER))


@finding(
    "ascites", sites=[Site(("liver",), ("around the liver", "in the perihepatic space"), 1, (-70.0, -20.0)),
                      Site(("spleen",), ("around the spleen", "in the perisplenic space"), -1, (-80.0, -35.0))],
    sizes={"small": (10.0, 13.0), "large": (20.0, 26.0)}, **ABDOMEN,
    steps=["There is a {size} amount of free fluid {loc}.", "A {size} volume of ascites is seen {loc}.", "{Size} ascites is present {loc}."],
    impressions=["{Size} ascites {loc}.", "{Size} amount of free fluid {loc}.", "Ascites {loc}, {size}."],
)  # fmt: skip
def draw_ascites(canvas: Canvas, f: Finding) -> None:
    p, side = canvas.patient, f.site.key
    box = canvas.box((8, -105, -150), (156, 108, 20)) if side > 0 else canvas.box((-156, -105, -150), (-8, 108, 10))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    # Fluid pushes the organ off the wall.
    below = z - geo.diaphragm(x, y, p) + 3
    distance = np.maximum(-(canvas.cavity[box] + 3 + f.amount), np.maximum(canvas.cavity[box] + 3, below))
    free = np.isin(canvas.region[box], (0, LIVER if side > 0 else SPLEEN))
    canvas.paint(box, distance, 8.0, lesion=f.lesion, inside=free & (np.abs(x) > 30))


@finding(
    "splenomegaly", sites=SPLEEN_SITE, sizes={"mild": (1.28, 1.36), "marked": (1.6, 1.8)}, modify=_grow("spleen"), **ABDOMEN,
    steps=["The spleen is enlarged, with {size} splenomegaly.", "There is {size} splenomegaly.", "{Size} enlargement of the spleen is noted."],
    impressions=["{Size} splenomegaly.", "{Size} enlargement of the spleen.", "Enlarged spleen, {size}."],
)  # fmt: skip
def draw_splenomegaly(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, SPLEEN)


@finding(
    "splenic lesion", sites=SPLEEN_SITE, sizes={"small": (8.0, 10.0), "large": (15.0, 19.0)}, weight=0.8, **ABDOMEN,
    steps=["A {size} hypodense lesion is seen in the spleen.", "There is a {size} low-density splenic lesion.", "The spleen contains a {size} hypodense focus."],
    impressions=["{Size} splenic lesion.", "{Size} hypodense lesion of the spleen.", "Hypodense splenic focus, {size}."],
)  # fmt: skip
def draw_splenic_lesion(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center, radii, turn = geo.spleen_frame(canvas.patient)
    u, v = -0.25 * radii[0], rng.uniform(-0.35, 0.35) * radii[1]
    c, s = np.cos(turn), np.sin(turn)
    at = center + (c * u - s * v, s * u + c * v, rng.uniform(-0.2, 0.3) * radii[2])
    draw_ellipsoid(canvas, at, f.amount * rng.uniform(0.9, 1.1, 3), 8.0, lesion=f.lesion, inside=_within(canvas, SPLEEN))


@finding(
    "renal cyst", sites=KIDNEYS, sizes={"small": (9.0, 12.0), "large": (20.0, 28.0)}, weight=1.2, **ABDOMEN,
    steps=["There is a {size} simple cyst in {loc}.", "A {size} cortical cyst is seen in {loc}.", "{Loc} contains a {size} fluid-density cyst.",
           "A {size} exophytic cyst arises from {loc}."],
    impressions=["{Size} cyst in {loc}.", "{Size} simple renal cyst, {loc}.", "Cortical cyst of {loc}, {size}."],
)  # fmt: skip
def draw_renal_cyst(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center, radii, _ = geo.kidney_frame(canvas.patient, f.site.key)
    low = canvas.patient.template_z[0] + 10
    dz = np.clip(rng.uniform(-0.5, 0.5) * radii[2], low - center[2], None)
    at = center + (f.site.key * (radii[0] * 0.9), rng.uniform(-0.1, 0.5) * radii[1], dz)
    region = 17 if f.site.key > 0 else 18
    free = lambda b: np.isin(canvas.region[b], (0, region, LIVER, SPLEEN)) & (canvas.cavity[b] < -2)  # noqa: E731
    draw_ellipsoid(canvas, at, f.amount * rng.uniform(0.9, 1.1, 3), 5.0, region, f.lesion, inside=free)


@finding(
    "renal stone", sites=KIDNEYS, sizes={"small": (3.5, 4.5), "large": (7.5, 10.0)}, **ABDOMEN,
    steps=["There is a {size} calculus in {loc}.", "A {size} stone is seen in the collecting system of {loc}.", "{Loc} contains a {size} hyperdense stone."],
    impressions=["{Size} stone in {loc}.", "{Size} nephrolithiasis of {loc}.", "Renal calculus, {size}, {loc}."],
)  # fmt: skip
def draw_renal_stone(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center, radii, _ = geo.kidney_frame(canvas.patient, f.site.key)
    low = canvas.patient.template_z[0] + 10
    dz = np.clip(rng.uniform(-0.35, 0.35) * radii[2], low - center[2], None)
    at = center + (-f.site.key * 5, 2, dz)
    region = 17 if f.site.key > 0 else 18
    draw_ellipsoid(canvas, at, np.array((1, 1, 1.3)) * f.amount, rng.uniform(600, 1100), region, f.lesion)


@finding(
    "hydronephrosis", sites=KIDNEYS, sizes={"mild": (9.0, 11.0), "severe": (15.0, 18.0)}, **ABDOMEN,
    steps=["There is {size} hydronephrosis of {loc}.", "The collecting system of {loc} shows {size} dilatation.", "{Size} pelvicalyceal dilatation is seen in {loc}."],
    impressions=["{Size} hydronephrosis of {loc}.", "{Size} dilatation of the collecting system of {loc}.", "Hydronephrosis, {size}, {loc}."],
)  # fmt: skip
def draw_hydronephrosis(canvas: Canvas, f: Finding) -> None:
    center, radii, turn = geo.kidney_frame(canvas.patient, f.site.key)
    region = 17 if f.site.key > 0 else 18
    pelvis = center + (-f.site.key * 12, 6, 0)
    size = np.array((f.amount * 1.35, f.amount, 2.2 * f.amount))
    draw_ellipsoid(canvas, pelvis, size, 6.0, region, f.lesion, turn=turn)
    for dz in (-0.4, 0.0, 0.4):
        draw_ellipsoid(canvas, center + (-f.site.key * 1, 2, dz * radii[2]), [f.amount * 0.62] * 3, 6.0, region, f.lesion)


@finding(
    "gallstone", sites=GALLBLADDER_SITE, sizes={"small": (4.5, 5.5), "large": (9.0, 12.0)}, **ABDOMEN,
    steps=["There is a {size} calculus in the gallbladder.", "A {size} gallstone is present.", "The gallbladder contains a {size} calcified stone."],
    impressions=["{Size} gallstone.", "Cholelithiasis with a {size} stone.", "{Size} calculus of the gallbladder."],
)  # fmt: skip
def draw_gallstone(canvas: Canvas, f: Finding) -> None:
    center, radii = geo.gallbladder_frame(canvas.patient)
    at = center + (0, -radii[1] + f.amount + 3, -2)
    draw_ellipsoid(canvas, at, np.array((1, 1, 1.2)) * f.amount, 420.0, GALLBLADDER, f.lesion)


@finding(
    "cholecystitis", sites=GALLBLADDER_SITE, sizes={"mild": (5.5, 7.0), "marked": (11.0, 14.0)}, weight=0.8, **ABDOMEN,
    steps=["The gallbladder wall shows {size} thickening, suggesting cholecystitis.", "There is {size} oedematous thickening of the gallbladder wall.",
           "{Size} wall thickening of the gallbladder with surrounding fluid is seen."],
    impressions=["{Size} gallbladder wall thickening, cholecystitis suspected.", "Findings of {size} cholecystitis.", "Thickened gallbladder wall, {size}."],
)  # fmt: skip
def draw_cholecystitis(canvas: Canvas, f: Finding) -> None:
    center, radii = geo.gallbladder_frame(canvas.patient)
    free = lambda b: np.isin(canvas.region[b], (0, LIVER, GALLBLADDER, STOMACH)) & (canvas.cavity[b] < -2)  # noqa: E731
    draw_ellipsoid(canvas, center, radii + f.amount + 2, 16.0, inside=free)
    draw_ellipsoid(canvas, center, radii + f.amount, 52.0, GALLBLADDER, f.lesion, inside=free)
    draw_ellipsoid(canvas, center, radii, 10.0, inside=free)


PANCREAS_SITES = [
    Site(("pancreas",), (f"the pancreatic {part}", f"the {part} of the pancreas"), key, z)
    for part, key, z in (("head", 0.7, (-112.0, -90.0)), ("body", 2.5, (-100.0, -75.0)), ("tail", 4.3, (-85.0, -60.0)))
]


def _along_pancreas(canvas: Canvas, t: float) -> np.ndarray:
    points, _ = geo.pancreas_path(canvas.patient)
    return np.array([np.interp(t, np.arange(len(points)), points[:, i]) for i in range(3)])


@finding(
    "pancreatic cyst", sites=PANCREAS_SITES, sizes={"small": (7.5, 10.0), "large": (15.0, 22.0)}, weight=1.2, **ABDOMEN,
    steps=["There is a {size} cystic lesion in {loc}.", "A {size} pancreatic cyst is seen in {loc}.", "{Loc} contains a {size} cyst."],
    impressions=["{Size} cystic lesion of {loc}.", "{Size} pancreatic cyst in {loc}.", "Cyst of {loc}, {size}, follow-up with MRI."],
)  # fmt: skip
def draw_pancreatic_cyst(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    at = _along_pancreas(canvas, f.site.key) + (0, 0.4 * f.amount, 0)
    free = lambda b: ~np.isin(canvas.region[b], (8, 19, 17, 18))  # noqa: E731
    radii = f.amount * rng.uniform(0.9, 1.1, 3)
    draw_ellipsoid(canvas, at, radii + 1.5, canvas.patient.hu["pancreas"], PANCREAS, f.lesion, inside=free)
    draw_ellipsoid(canvas, at, radii, 7.0, PANCREAS, f.lesion, inside=free)


@finding(
    "pancreatic calcification", sites=[Site(("pancreas",), ("the pancreas",), None, (-100.0, -70.0))], sizes={"scattered": (6, 8), "extensive": (18, 24)},
    weight=0.8, **ABDOMEN,
    steps=["{Size} parenchymal calcifications are seen in the pancreas.", "There are {size} pancreatic calcifications, suggesting chronic pancreatitis.",
           "The pancreas shows {size} coarse calcification."],
    impressions=["{Size} pancreatic calcification, chronic pancreatitis considered.", "{Size} calcifications of the pancreas.", "Chronic calcifying pancreatitis, {size}."],
)  # fmt: skip
def draw_pancreatic_calcification(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    for t in rng.uniform(1.0, 4.6, int(f.amount)):
        at = _along_pancreas(canvas, t) + rng.normal(0, 2.5, 3)
        draw_ellipsoid(canvas, at, rng.uniform(2.2, 3.6, 3), rng.uniform(500, 900), lesion=f.lesion)


@finding(
    "gastric wall thickening", sites=STOMACH_SITE, sizes={"mild": (9.0, 11.0), "marked": (16.0, 19.0)}, **ABDOMEN,
    steps=["The gastric wall shows {size} thickening.", "There is {size} thickening of the stomach wall.", "{Size} diffuse gastric wall thickening is present."],
    impressions=["{Size} gastric wall thickening.", "{Size} thickened stomach wall, endoscopy advised.", "Thickening of the gastric wall, {size}."],
)  # fmt: skip
def draw_gastric_thickening(canvas: Canvas, f: Finding) -> None:
    points, radius = geo.stomach_path(canvas.patient)
    hu = canvas.patient.hu["wall"] + 6
    inside = lambda b: canvas.region[b] == STOMACH  # noqa: E731
    keep = canvas.hu.copy()
    draw_tube(canvas, points, radius, hu, lesion=f.lesion, inside=inside)
    # The lumen that is left keeps its contents.
    core = np.zeros_like(canvas.lesion)
    hold, canvas.lesion = canvas.lesion, core
    draw_tube(canvas, points, np.maximum(radius - f.amount, 4), None, lesion=1, inside=inside)
    canvas.lesion = hold
    canvas.hu[core > 0] = keep[core > 0]
    canvas.lesion[(core > 0) & (canvas.lesion == f.lesion)] = 0


@finding(
    "gastric distension", sites=STOMACH_SITE, sizes={"moderate": (1.26, 1.32), "marked": (1.45, 1.55)}, modify=_grow("stomach"), weight=0.8, **ABDOMEN,
    steps=["The stomach shows {size} distension.", "There is {size} gastric distension.", "{Size} distension of the stomach is seen."],
    impressions=["{Size} gastric distension.", "{Size} distension of the stomach.", "Distended stomach, {size}."],
)  # fmt: skip
def draw_gastric_distension(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, STOMACH)
