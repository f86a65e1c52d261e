"""Findings of the liver and the gallbladder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.abdomen import liver_distance
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, Site, finding, mark_region, within
from ctvlm.phantom.ids import GALLBLADDER, LIVER, SPLEEN, STOMACH
from ctvlm.phantom.patient import Patient
from ctvlm.phantom.shapes import draw_ellipsoid

LIVER_SITE = Site(("liver",), ("the liver",), (-60, 140), (-60.0, -10.0))
LIVER_LOBES = [
    Site(("liver",), ("the right hepatic lobe", "the right lobe of the liver"), (45, 140), (-60.0, -10.0)),
    Site(("liver",), ("the left hepatic lobe", "the left lobe of the liver"), (-40, 22), (-50.0, -15.0)),
]
GALLBLADDER_SITE = (Site(("gallbladder",), ("the gallbladder",), None, (-92.0, -72.0)),)


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
    raise ValueError(f"no space in the liver between x = {low} and {high} mm")


def _dark(canvas: Canvas, name: str, drop: float, enhanced_drop: float) -> float:
    """HU of a lesion that enhances less than the organ."""
    p = canvas.patient
    return p.hu[name] - (drop if p.phase == "non_contrast" else enhanced_drop)


def _reduce_liver_hu(patient: Patient, f: Finding) -> Patient:
    return replace(patient, hu={**patient.hu, "liver": patient.hu["liver"] - f.amount})


@finding(
    "hepatic steatosis",
    sites=(LIVER_SITE,),
    sizes={"mild": (26.0, 34.0), "severe": (55.0, 70.0)},
    modify=_reduce_liver_hu,
    section="abdomen",
    weight=1.3,
    steps=[
        "The liver shows {size} diffuse fatty infiltration.",
        "Liver attenuation is diffusely decreased, in keeping with {size} steatosis.",
        "There is {size} hepatic steatosis.",
        "{Size} hepatosteatosis is seen, the parenchyma being darker than expected.",
    ],
    impressions=["{Size} hepatic steatosis.", "{Size} fatty liver.", "Hepatosteatosis, {size}."],
)
def _draw_steatosis(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, LIVER)


@finding(
    "hepatic cyst",
    sites=LIVER_LOBES,
    sizes={"small": (9.0, 12.0), "large": (20.0, 30.0)},
    section="abdomen",
    steps=[
        "There is a {size} simple cyst in {loc}.",
        "A {size} hypodense cyst is seen in {loc}.",
        "{Loc} contains a {size} cyst of fluid density.",
        "A {size} well-circumscribed cystic lesion is present in {loc}.",
    ],
    impressions=["{Size} hepatic cyst in {loc}.", "{Size} cyst of {loc}.", "Simple cyst, {size}, {loc}."],
)
def _draw_liver_cyst(canvas: Canvas, f: Finding) -> None:
    center = _liver_points(canvas, f, 1, f.amount * 0.9)[0]
    draw_ellipsoid(
        canvas, center, np.array((1, 1, 0.95)) * f.amount, 6.0, lesion=f.lesion, inside=within(canvas, (LIVER,))
    )


@finding(
    "liver metastases",
    sites=[replace(LIVER_LOBES[0], key=(20, 140)), LIVER_SITE],
    sizes={"few": (3, 4), "numerous": (11, 15)},
    section="abdomen",
    steps=[
        "{Size} hypodense lesions suspicious for metastases are seen in {loc}.",
        "There are {size} metastatic lesions in {loc}.",
        "{Loc} contains {size} ill-defined hypodense masses, suspicious for metastatic disease.",
    ],
    impressions=[
        "{Size} liver metastases in {loc}.",
        "{Size} hypodense masses of {loc}, suspicious for metastases.",
        "Hepatic metastatic disease, {size} lesions, {loc}.",
    ],
)
def _draw_liver_metastases(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed + 1)
    hu = _dark(canvas, "liver", 34, 52)
    for at in _liver_points(canvas, f, int(f.amount), 9):
        radii = rng.uniform(8, 15) * rng.uniform(0.85, 1.15, 3)
        draw_ellipsoid(
            canvas, at, radii, hu, lesion=f.lesion, inside=within(canvas, (LIVER,)), edge=max(4.0, canvas.edge)
        )
        draw_ellipsoid(canvas, at, radii * 0.5, hu - 12, inside=within(canvas, (LIVER,)))


@finding(
    "ascites",
    sites=[
        Site(("liver",), ("around the liver", "in the perihepatic space"), 1, (-70.0, -20.0)),
        Site(("spleen",), ("around the spleen", "in the perisplenic space"), -1, (-80.0, -35.0)),
    ],
    sizes={"small": (10.0, 13.0), "large": (20.0, 26.0)},
    section="abdomen",
    weight=0.9,
    steps=[
        "There is a {size} amount of free fluid {loc}.",
        "A {size} volume of ascites is seen {loc}.",
        "{Size} ascites is present {loc}.",
    ],
    impressions=["{Size} ascites {loc}.", "{Size} amount of free fluid {loc}.", "Ascites {loc}, {size}."],
)
def _draw_ascites(canvas: Canvas, f: Finding) -> None:
    p, side = canvas.patient, f.site.key
    box = canvas.box((8, -105, -150), (156, 108, 20)) if side > 0 else canvas.box((-156, -105, -150), (-8, 108, 10))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    # The fluid displaces the organ from the wall.
    below = z - geo.diaphragm(x, y, p) + 3
    distance = np.maximum(-(canvas.cavity[box] + 3 + f.amount), np.maximum(canvas.cavity[box] + 3, below))
    free = np.isin(canvas.region[box], (0, LIVER if side > 0 else SPLEEN))
    canvas.paint(box, distance, 8.0, lesion=f.lesion, inside=free & (np.abs(x) > 30))


@finding(
    "gallstone",
    sites=GALLBLADDER_SITE,
    sizes={"small": (6.0, 7.5), "large": (10.5, 13.5)},
    section="abdomen",
    steps=[
        "There is a {size} calculus in the gallbladder.",
        "A {size} gallstone is present.",
        "The gallbladder contains a {size} calcified stone.",
    ],
    impressions=["{Size} gallstone.", "Cholelithiasis with a {size} stone.", "{Size} calculus of the gallbladder."],
)
def _draw_gallstone(canvas: Canvas, f: Finding) -> None:
    center, radii = geo.gallbladder_frame(canvas.patient)
    at = np.add(center, (0, -radii[1] + f.amount + 3, -2))
    draw_ellipsoid(canvas, at, np.array((1, 1, 1.2)) * f.amount, 420.0, GALLBLADDER, f.lesion)


@finding(
    "cholecystitis",
    sites=GALLBLADDER_SITE,
    sizes={"mild": (5.5, 7.0), "marked": (11.0, 14.0)},
    section="abdomen",
    weight=0.6,
    steps=[
        "The gallbladder wall shows {size} thickening, suggesting cholecystitis.",
        "There is {size} oedematous thickening of the gallbladder wall.",
        "{Size} wall thickening of the gallbladder with surrounding fluid is seen.",
    ],
    impressions=[
        "{Size} gallbladder wall thickening, cholecystitis suspected.",
        "Findings of {size} cholecystitis.",
        "Thickened gallbladder wall, {size}.",
    ],
)
def _draw_cholecystitis(canvas: Canvas, f: Finding) -> None:
    center, radii = geo.gallbladder_frame(canvas.patient)
    free = lambda b: np.isin(canvas.region[b], (0, LIVER, GALLBLADDER, STOMACH)) & (canvas.cavity[b] < -2)  # noqa: E731
    draw_ellipsoid(canvas, center, radii + f.amount + 2, 16.0, inside=free)
    draw_ellipsoid(canvas, center, radii + f.amount, 52.0, GALLBLADDER, f.lesion, inside=free)
    draw_ellipsoid(canvas, center, radii, 10.0, inside=free)
