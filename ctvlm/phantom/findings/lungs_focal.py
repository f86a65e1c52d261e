"""Focal findings of the lungs."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, finding, within
from ctvlm.phantom.findings.lung_tools import (
    LOBES,
    brighten,
    centers,
    cloud,
)
from ctvlm.phantom.shapes import draw_ellipsoid, draw_segments, ellipsoid, smooth_noise


@finding(
    "lung nodule",
    label="Lung nodule",
    sites=LOBES,
    sizes={"small": (6.0, 8.0), "large": (11.0, 16.0)},
    section="lungs",
    weight=1.8,
    steps=[
        "There is a {size} solid nodule in {loc}.",
        "A {size} pulmonary nodule is seen in {loc}.",
        "{Loc} contains a {size} well-defined nodule.",
        "A {size} solid nodular lesion is present in {loc}.",
        "In {loc}, a {size} soft tissue nodule is observed.",
    ],
    impressions=[
        "{Size} nodule in {loc}.",
        "{Size} solid pulmonary nodule, {loc}.",
        "Solitary {size} nodule of {loc}.",
    ],
)
def _draw_nodule(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center = centers(canvas, f, 1, rng, f.amount + 6)[0]
    draw_ellipsoid(
        canvas, center, f.amount * rng.uniform(0.9, 1.1, 3), 38.0, lesion=f.lesion, inside=within(canvas, f.site.key)
    )
    for _ in range(3):
        at = center + rng.normal(0, 0.45 * f.amount, 3)
        draw_ellipsoid(canvas, at, [0.6 * f.amount] * 3, 34.0, lesion=f.lesion, inside=within(canvas, f.site.key))


@finding(
    "ground-glass opacity",
    label="Lung opacity",
    sites=LOBES,
    sizes={"small": (17.0, 24.0), "extensive": (32.0, 46.0)},
    section="lungs",
    weight=1.6,
    steps=[
        "There is {a_size} area of ground-glass opacity in {loc}.",
        "{Size} ground-glass attenuation is seen in {loc}.",
        "{Loc} shows {a_size} ground-glass opacity.",
        "{A_size} hazy ground-glass density is noted in {loc}.",
    ],
    impressions=[
        "{Size} ground-glass opacity in {loc}.",
        "Ground-glass infiltrate of {loc}, {size}.",
        "{Size} ground-glass density, {loc}.",
    ],
)
def _draw_ground_glass(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center = centers(canvas, f, 1, rng, 14)[0]
    spot = cloud(canvas, center, f.amount * rng.uniform(0.8, 1.15, 3), rng, 4.0)
    if spot is not None:
        box, distance = spot
        brighten(
            canvas, box, distance, np.float32(rng.uniform(-620, -520)), f, within(canvas, f.site.key)(box), edge=8.0
        )


@finding(
    "consolidation",
    label="Consolidation",
    sites=LOBES,
    sizes={"small": (16.0, 22.0), "large": (28.0, 40.0)},
    section="lungs",
    weight=1.5,
    steps=[
        "There is a {size} consolidation in {loc}.",
        "{A_size} airspace consolidation with air bronchograms is seen in {loc}.",
        "{Loc} shows {a_size} area of consolidation.",
        "A {size} dense parenchymal consolidation is present in {loc}.",
    ],
    impressions=[
        "{Size} consolidation in {loc}.",
        "{Size} airspace consolidation of {loc}, likely pneumonic.",
        "Consolidative change in {loc}, {size}.",
    ],
)
def _draw_consolidation(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center = centers(canvas, f, 1, rng, 11)[0]
    spot = cloud(canvas, center, f.amount * rng.uniform(0.8, 1.15, 3), rng, 3.5, 18.0)
    if spot is None:
        return
    box, distance = spot
    canvas.paint(
        box, distance, np.float32(rng.uniform(25, 50)), lesion=f.lesion, inside=within(canvas, f.site.key)(box)
    )
    hilum = geo.HILUM[1 if f.site.key[0] <= 3 else -1]
    inward = (hilum - center) / np.linalg.norm(hilum - center)
    inside = lambda b: canvas.lesion[b] == f.lesion  # noqa: E731
    ends = center + rng.normal(0, 0.5 * f.amount, (4, 3))
    starts = center + inward * f.amount + rng.normal(0, 3, (4, 3))
    draw_segments(canvas, starts, ends, 2.0, -820.0, inside=inside)


@finding(
    "atelectasis",
    label="Atelectasis",
    sites=LOBES,
    sizes={"thin": (2.4, 3.2), "thick": (5.0, 7.5)},
    section="lungs",
    weight=1.2,
    steps=[
        "A {size} band of atelectasis is seen in {loc}.",
        "There is {size} linear atelectasis in {loc}.",
        "{Loc} shows {size} subsegmental band atelectasis.",
        "{A_size} plate-like atelectatic band crosses {loc}.",
    ],
    impressions=[
        "{Size} band atelectasis in {loc}.",
        "Linear atelectasis of {loc}, {size}.",
        "{Size} subsegmental atelectatic band, {loc}.",
    ],
)
def _draw_atelectasis(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center = centers(canvas, f, 1, rng, 12)[0]
    reach = rng.uniform(34, 46)
    box = canvas.box(center - reach, center + reach)
    if box is None:
        return
    x, y, z = canvas.coords(box)
    angle, tilt = rng.uniform(0, np.pi), rng.uniform(0.2, 0.5)
    normal = np.array((np.cos(angle), np.sin(angle), tilt), np.float32)
    normal /= np.linalg.norm(normal)
    plane = (x - center[0]) * normal[0] + (y - center[1]) * normal[1] + (z - center[2]) * normal[2]
    plane = np.abs(plane + smooth_noise(x, y, z, rng, 70.0, 3) * 2) - np.float32(max(f.amount, 0.45 * canvas.edge))
    distance = np.maximum(plane, ellipsoid(x, y, z, center, (reach, reach, reach * 0.8)))
    strength = min(1.0, f.amount / (0.45 * canvas.edge))
    canvas.paint(box, distance, 10.0, lesion=f.lesion, inside=within(canvas, f.site.key)(box), strength=strength)
