"""Diffuse findings of the lungs."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, finding, within
from ctvlm.phantom.findings.lung_tools import (
    BOTH_LOWER,
    BOTH_UPPER,
    LLL,
    LOBES,
    LUL,
    RLL,
    RML,
    RUL,
    brighten,
    centers,
    cloud,
)
from ctvlm.phantom.shapes import draw_ellipsoid, draw_segments, draw_tube, smooth_noise


@finding(
    "emphysema",
    label="Emphysema",
    sites=(RUL, LUL, BOTH_UPPER, RLL, LLL),
    sizes={"mild": (16, 26), "severe": (60, 90)},
    section="lungs",
    weight=1.3,
    steps=[
        "{Size} emphysema is present in {loc}.",
        "There are {size} emphysematous changes in {loc}.",
        "{Loc_s} {size} centrilobular emphysema.",
        "{Size} areas of emphysematous lucency are seen in {loc}.",
    ],
    impressions=[
        "{Size} emphysema in {loc}.",
        "{Size} emphysematous change of {loc}.",
        "Centrilobular emphysema, {size}, {loc}.",
    ],
)
def _draw_emphysema(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    for at in centers(canvas, f, int(f.amount), rng, 3):
        size = rng.uniform(4.5, 10 if f.amount < 40 else 14)
        draw_ellipsoid(canvas, at, size * rng.uniform(0.8, 1.3, 3), rng.uniform(-1000, -970), lesion=f.lesion,
                       inside=within(canvas, f.site.key))  # fmt: skip


@finding(
    "pulmonary fibrotic sequela",
    label="Pulmonary fibrotic sequela",
    sites=(RUL, LUL, RML, RLL, LLL),
    sizes={"mild": (7, 10), "marked": (18, 26)},
    section="lungs",
    weight=1.2,
    steps=[
        "{Size} fibrotic sequelae are seen in {loc}.",
        "There are {size} fibrotic scars with volume loss in {loc}.",
        "{Loc_s} {size} sequela fibrotic changes.",
        "{Size} pleuroparenchymal fibrotic scarring is noted in {loc}.",
    ],
    impressions=[
        "{Size} fibrotic sequelae in {loc}.",
        "{Size} pleuroparenchymal scarring of {loc}.",
        "Sequela fibrotic change in {loc}, {size}.",
    ],
)
def _draw_fibrosis(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center = centers(canvas, f, 1, rng, 8)[0]
    side = 1 if f.site.key[0] <= 3 else -1
    outward = np.array((side * 0.8, rng.normal(0, 0.5), 0.6 if f.site.key[0] in (1, 4) else -0.3))
    focus = center + outward * 8
    spread = 16 + 0.5 * f.amount
    spot = cloud(canvas, focus, (spread, spread, spread), rng, 5.0)
    if spot is not None:
        brighten(canvas, *spot, np.float32(-690), f, within(canvas, f.site.key)(spot[0]), edge=12.0)
    count = int(f.amount)
    starts = focus + rng.normal(0, 6, (count, 3))
    ends = focus + rng.normal(0, spread, (count, 3)) * (1, 1, 0.9)
    draw_segments(
        canvas, starts, ends, rng.uniform(1.4, 2.8, count), 0.0, inside=within(canvas, f.site.key), lesion=f.lesion
    )


@finding(
    "mosaic attenuation",
    label="Mosaic attenuation pattern",
    sites=(BOTH_LOWER, BOTH_UPPER),
    sizes={"mild": (70, 95), "marked": (150, 190)},
    section="lungs",
    steps=[
        "{Size} mosaic attenuation is seen in {loc}.",
        "There is a {size} mosaic pattern of attenuation in {loc}.",
        "{Loc_s} {size} mosaic attenuation, suggesting air trapping.",
        "A {size} patchwork of differing lung density is present in {loc}.",
    ],
    impressions=[
        "{Size} mosaic attenuation of {loc}.",
        "{Size} mosaic attenuation pattern in {loc}, small airway disease considered.",
        "Mosaic pattern in {loc}, {size}.",
    ],
)
def _draw_mosaic(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    box = canvas.box((-152, -110, -105), (152, 105, 170))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    patches = np.tanh(smooth_noise(x, y, z, rng, 46.0, 6) * np.float32(3))
    inside = within(canvas, f.site.key)(box)
    canvas.hu[box] += np.where(
        inside, np.where(patches > 0, patches * np.float32(f.amount), patches * np.float32(45)), 0
    )
    canvas.lesion[box][inside & (patches > 0)] = f.lesion


@finding(
    "bronchiectasis",
    label="Bronchiectasis",
    sites=LOBES,
    sizes={"mild": (3.6, 4.6), "marked": (6.5, 9.0)},
    section="lungs",
    steps=[
        "{Size} bronchiectasis is present in {loc}.",
        "There is {size} bronchial dilatation in {loc}.",
        "{Loc_s} {size} bronchiectatic changes.",
        "{Size} cylindrical bronchiectasis is seen in {loc}.",
    ],
    impressions=[
        "{Size} bronchiectasis in {loc}.",
        "{Size} bronchiectatic change of {loc}.",
        "Bronchial dilatation in {loc}, {size}.",
    ],
)
def _draw_bronchiectasis(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    hilum = geo.HILUM[1 if f.site.key[0] <= 3 else -1]
    ends = centers(canvas, f, 5, rng, 8)
    inside = within(canvas, f.site.key)
    for wall, hu in ((2.0, -80.0), (0.0, -990.0)):
        for i, end in enumerate(ends):
            start = end + (hilum - end) * 0.55
            middle = (start + end) / 2 + np.random.default_rng(f.seed + i).normal(0, 5, 3)
            sizes = np.array([0.8, 1.0, 1.15]) * f.amount + wall
            draw_tube(canvas, [start, middle, end], sizes, hu, lesion=f.lesion, inside=inside)


@finding(
    "peribronchial thickening",
    label="Peribronchial thickening",
    sites=(RUL, RLL, LUL, LLL),
    sizes={"mild": (5.5, 6.5), "marked": (9.0, 11.0)},
    section="lungs",
    weight=0.6,
    steps=[
        "{Size} peribronchial thickening is seen in {loc}.",
        "There is {size} bronchial wall thickening in {loc}.",
        "{Loc_s} {size} peribronchial cuffing.",
        "The bronchial walls in {loc} show {size} thickening.",
    ],
    impressions=[
        "{Size} peribronchial thickening in {loc}.",
        "{Size} bronchial wall thickening of {loc}.",
        "Peribronchial cuffing, {size}, {loc}.",
    ],
)
def _draw_cuffing(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    hilum = geo.HILUM[1 if f.site.key[0] <= 3 else -1]
    ends = hilum + (centers(canvas, f, 4, rng, 8) - hilum) * 0.75
    inside = within(canvas, f.site.key)
    for radius, hu in ((f.amount, 20.0), (2.0, -930.0)):
        for end in ends:
            draw_tube(
                canvas, [hilum + (end - hilum) * 0.1, end], [radius, radius * 0.75], hu, lesion=f.lesion, inside=inside
            )


@finding(
    "interlobular septal thickening",
    label="Interlobular septal thickening",
    sites=(RUL, RLL, LUL, LLL, BOTH_LOWER),
    sizes={"mild": (170, 230), "marked": (400, 500)},
    section="lungs",
    steps=[
        "{Size} interlobular septal thickening is present in {loc}.",
        "There is {size} smooth thickening of the interlobular septa in {loc}.",
        "{Loc_s} {size} septal thickening.",
        "The interlobular septa of {loc} show {size} thickening.",
    ],
    impressions=[
        "{Size} interlobular septal thickening in {loc}.",
        "{Size} septal thickening of {loc}, possibly interstitial oedema.",
        "Thickened interlobular septa in {loc}, {size}.",
    ],
)
def _draw_septa(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    box = canvas.box((-152, -110, -105), (152, 105, 170))
    if box is None:
        return
    inside = within(canvas, f.site.key)(box)
    x, y, z = canvas.coords(box)
    zero = smooth_noise(x, y, z, rng, 42.0, 4)
    lines = np.clip(1.15 - np.abs(zero) * np.float32(42 / 6.283 / max(2.6, canvas.edge * 0.75)), 0, 1)
    zero = smooth_noise(x, y, z, rng, 42.0, 4)
    lines = np.maximum(
        lines, np.clip(1.15 - np.abs(zero) * np.float32(42 / 6.283 / max(2.6, canvas.edge * 0.75)), 0, 1)
    )
    lines *= inside
    canvas.hu[box] += lines * np.float32(f.amount * min(1.0, 1.6 * 2.6 / canvas.edge))
    canvas.lesion[box][lines > 0.5] = f.lesion
