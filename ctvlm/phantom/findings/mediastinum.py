"""Findings of the mediastinum and the oesophagus."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, Site, finding, outside
from ctvlm.phantom.ids import AORTA, ESOPHAGUS, HEART, LIVER, MEDIASTINUM, SPINE, STOMACH, TRACHEA
from ctvlm.phantom.shapes import draw_ellipsoid, draw_segments, draw_tube


@finding(
    "lymphadenopathy",
    label="Lymphadenopathy",
    section="mediastinum",
    sizes={"mild": (8.5, 10.5), "bulky": (14.0, 18.0)},
    sites=[
        Site(
            ("mediastinum",),
            ("the right paratracheal station", "the right paratracheal region"),
            (19, 0, 112),
            (80.0, 130.0),
        ),
        Site(("mediastinum",), ("the subcarinal station", "the subcarinal region"), (2, -20, 74), (50.0, 95.0)),
        Site(("mediastinum",), ("the prevascular station", "the prevascular space"), (-12, 42, 104), (80.0, 125.0)),
    ],
    weight=1.4,
    steps=[
        "There are {size} enlarged lymph nodes in {loc}.",
        "{Size} lymphadenopathy is present in {loc}.",
        "Pathologically enlarged lymph nodes, {size}, are seen in {loc}.",
        "{Loc} contains {size} enlarged nodes.",
    ],
    impressions=[
        "{Size} mediastinal lymphadenopathy in {loc}.",
        "{Size} enlarged lymph nodes in {loc}.",
        "Lymphadenopathy of {loc}, {size}.",
    ],
)
def _draw_lymphadenopathy(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    hu = 42.0 if canvas.patient.phase == "non_contrast" else 75.0
    keep = lambda b: (canvas.region[b] == MEDIASTINUM) | (canvas.region[b] <= 5)  # noqa: E731
    for i in range(3):
        at = np.array(f.site.key) + canvas.patient.shift["arch"] * 0.5 + rng.normal(0, (4, 4, 6)) + (0, 0, 9 * (i - 1))
        radii = f.amount * rng.uniform(0.75, 1.1, 3)
        draw_ellipsoid(canvas, at, radii, hu, region=MEDIASTINUM, lesion=f.lesion, inside=keep)


@finding(
    "anterior mediastinal mass",
    section="mediastinum",
    sizes={"small": (13.0, 16.0), "large": (26.0, 34.0)},
    sites=[Site(("mediastinum",), ("the anterior mediastinum",), None, (60.0, 125.0))],
    weight=0.7,
    steps=[
        "A {size} soft tissue mass is seen in {loc}.",
        "There is a {size} mass in {loc}.",
        "{Loc} contains a {size} lobulated mass.",
    ],
    impressions=["{Size} mass in {loc}.", "{Size} anterior mediastinal mass.", "{Size} retrosternal soft tissue mass."],
)
def _draw_anterior_mass(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    keep = lambda b: ((canvas.region[b] == MEDIASTINUM) | (canvas.region[b] <= 5)) & (canvas.cavity[b] < -2)  # noqa: E731
    center = np.array((rng.normal(0, 5), 50 - 0.2 * f.amount, 92))
    for i in range(3):
        at = center + (rng.normal(0, 0.3 * f.amount, 3) if i else 0)
        draw_ellipsoid(
            canvas, at, f.amount * rng.uniform(0.7, 1.1, 3), rng.uniform(40, 62), MEDIASTINUM, f.lesion, inside=keep
        )


@finding(
    "hiatal hernia",
    label="Hiatal hernia",
    section="mediastinum",
    sizes={"small": (15.0, 19.0), "large": (27.0, 35.0)},
    sites=[Site(("esophagus", "stomach"), ("the oesophageal hiatus", "the hiatus"), None, (-40.0, 40.0))],
    weight=1.1,
    steps=[
        "There is a {size} sliding hiatal hernia.",
        "A {size} hiatal hernia is present, with part of the stomach above the diaphragm.",
        "{Size} herniation of the stomach through the oesophageal hiatus is seen.",
        "Part of the stomach lies behind the heart: {size} hiatal hernia.",
    ],
    impressions=["{Size} hiatal hernia.", "Hiatal hernia, {size}.", "{Size} sliding hernia of the stomach."],
)
def _draw_hiatal_hernia(canvas: Canvas, f: Finding) -> None:
    p = canvas.patient
    center = np.array((-14, -22 + 0.2 * f.amount, 4)) + p.shift["esophagus"]
    radii = f.amount * np.array((1.1, 0.9, 1.05))
    keep = outside(canvas, (AORTA, SPINE, LIVER, HEART))
    draw_ellipsoid(canvas, center, radii, p.hu["wall"] + 4, STOMACH, f.lesion, inside=keep)
    inner = lambda b: canvas.lesion[b] == f.lesion  # noqa: E731
    draw_ellipsoid(canvas, center, radii - 4, 20.0, inside=inner)
    gas = lambda b: (canvas.lesion[b] == f.lesion) & (canvas.y[b] > center[1] + 0.1 * f.amount)  # noqa: E731
    draw_ellipsoid(canvas, center, radii - 4, -920.0, inside=gas)


@finding(
    "esophageal wall thickening",
    section="mediastinum",
    sizes={"mild": (12.5, 14.0), "marked": (18.0, 22.0)},
    sites=[
        Site(("esophagus",), ("the upper thoracic oesophagus", "the proximal oesophagus"), 128, (105.0, 150.0)),
        Site(("esophagus",), ("the mid oesophagus", "the middle third of the oesophagus"), 68, (45.0, 90.0)),
        Site(("esophagus",), ("the distal oesophagus", "the lower third of the oesophagus"), 16, (-5.0, 40.0)),
    ],
    steps=[
        "There is {size} wall thickening of {loc}.",
        "The wall of {loc} shows {size} thickening.",
        "{Loc} has a {size} circumferentially thickened wall.",
        "{Size} mural thickening is seen in {loc}.",
    ],
    impressions=[
        "{Size} wall thickening of {loc}.",
        "{Size} mural thickening of {loc}, endoscopy advised.",
        "Thickened wall of {loc}, {size}.",
    ],
)
def _draw_esophageal_thickening(canvas: Canvas, f: Finding) -> None:
    points, _ = geo.esophagus_path(canvas.patient)
    at = np.array(
        [
            [np.interp(h, points[::-1, 2], points[::-1, i]) for i in range(3)]
            for h in np.linspace(f.site.key - 18, f.site.key + 18, 4)
        ]
    )
    keep = outside(canvas, (AORTA, SPINE, TRACHEA, HEART))
    hu = 44.0 if canvas.patient.phase == "non_contrast" else 68.0
    draw_tube(canvas, at, f.amount, hu, ESOPHAGUS, f.lesion, inside=keep)
    draw_segments(canvas, at[:-1], at[1:], 2.0, -700.0)
