"""Findings of the trachea and the thyroid."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, Site, finding, grow, mark_region, outside
from ctvlm.phantom.ids import ESOPHAGUS, SPINE, THYROID, TRACHEA
from ctvlm.phantom.shapes import draw_ellipsoid, draw_tube


@finding(
    "tracheal stenosis",
    section="airways",
    sizes={"mild": (5.2, 5.8), "severe": (2.4, 3.2)},
    sites=[
        Site(("trachea",), ("the upper trachea", "the proximal trachea"), 152, (135.0, 170.0)),
        Site(("trachea",), ("the lower trachea", "the distal trachea"), 116, (98.0, 132.0)),
    ],
    weight=0.8,
    steps=[
        "There is {size} narrowing of {loc}.",
        "{Loc} shows {size} stenosis with wall thickening.",
        "{Size} luminal stenosis is seen in {loc}.",
    ],
    impressions=["{Size} stenosis of {loc}.", "{Size} tracheal narrowing, {loc}.", "Narrowed lumen of {loc}, {size}."],
)
def _draw_tracheal_stenosis(canvas: Canvas, f: Finding) -> None:
    path = geo.trachea_path(canvas.patient)
    at = np.array(
        [
            [np.interp(h, path[::-1, 2], path[::-1, i]) for i in range(3)]
            for h in np.linspace(f.site.key - 17, f.site.key + 17, 4)
        ]
    )
    keep = lambda b: canvas.region[b] == TRACHEA  # noqa: E731
    draw_tube(canvas, at, 12.0, 45.0, TRACHEA, f.lesion, inside=keep)
    draw_tube(canvas, at, f.amount, -960.0, inside=keep)


@finding(
    "tracheal diverticulum",
    section="airways",
    sizes={"small": (5.5, 7.0), "large": (10.0, 12.5)},
    sites=[
        Site(
            ("trachea",),
            ("the right posterolateral wall of the trachea", "the right side of the upper trachea"),
            None,
            (135.0, 168.0),
        )
    ],
    weight=0.5,
    steps=[
        "There is a {size} air-filled diverticulum at {loc}.",
        "A {size} tracheal diverticulum is seen at {loc}.",
        "A {size} paratracheal air cyst lies at {loc}.",
    ],
    impressions=[
        "{Size} tracheal diverticulum.",
        "{Size} right paratracheal air cyst.",
        "Tracheal diverticulum, {size}.",
    ],
)
def _draw_tracheal_diverticulum(canvas: Canvas, f: Finding) -> None:
    path = geo.trachea_path(canvas.patient)
    at = np.array([np.interp(150, path[::-1, 2], path[::-1, i]) for i in range(3)])
    center = np.add(at, (8 + f.amount * 0.9, -6 - 0.3 * f.amount, 0))
    keep = outside(canvas, (SPINE, ESOPHAGUS))
    radii = np.array((f.amount, f.amount, f.amount * 1.5))
    draw_ellipsoid(canvas, center, radii + 1.5, 30.0, inside=keep)
    draw_ellipsoid(canvas, center, radii, -985.0, TRACHEA, f.lesion, inside=keep)


THYROID_SIDES = [
    Site(("thyroid",), (f"the {side} thyroid lobe", f"the {side} lobe of the thyroid"), key, (168.0, 192.0))
    for side, key in (("right", 1), ("left", -1))
]


@finding(
    "thyroid nodule",
    section="neck",
    sizes={"small": (6.5, 8.0), "large": (12.0, 17.0)},
    sites=THYROID_SIDES,
    weight=1.6,
    steps=[
        "There is a {size} hypodense nodule in {loc}.",
        "{Loc} contains a {size} nodule.",
        "A {size} thyroid nodule is seen in {loc}.",
    ],
    impressions=[
        "{Size} nodule in {loc}.",
        "{Size} thyroid nodule, {loc}, ultrasound advised.",
        "Hypodense nodule of {loc}, {size}.",
    ],
)
def _draw_thyroid_nodule(canvas: Canvas, f: Finding) -> None:
    p = canvas.patient
    center = (
        np.array((f.site.key * (12 + 6.5 * p.size["thyroid"] + 0.35 * f.amount), geo.spine_y(180) + 46, 180))
        + p.shift["thyroid"]
    )
    keep = lambda b: canvas.region[b] != TRACHEA  # noqa: E731
    draw_ellipsoid(canvas, center, f.amount * np.array((1, 1, 1.2)), 48.0, THYROID, f.lesion, inside=keep)


@finding(
    "goitre",
    section="neck",
    sizes={"mild": (1.35, 1.45), "marked": (1.7, 1.95)},
    modify=grow("thyroid"),
    sites=[Site(("thyroid",), ("the thyroid gland",), None, (168.0, 192.0))],
    steps=[
        "The thyroid gland is diffusely enlarged, with {size} goitre.",
        "There is {size} diffuse enlargement of the thyroid.",
        "{Size} goitre is present.",
    ],
    impressions=["{Size} goitre.", "{Size} diffuse thyroid enlargement.", "Enlarged thyroid gland, {size}."],
)
def _draw_goitre(canvas: Canvas, f: Finding) -> None:
    mark_region(canvas, f, THYROID)
