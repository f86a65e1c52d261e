"""Findings of the pleural space, and cavitary lesions."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, Site, finding, within
from ctvlm.phantom.findings.lung_tools import LLL, LUL, RLL, RUL, centers
from ctvlm.phantom.shapes import draw_ellipsoid

RIGHT_LOBES = ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right")
LEFT_LOBES = ("lung_upper_lobe_left", "lung_lower_lobe_left")


def _sides(lobe: str) -> tuple[Site, Site]:
    right, left = (f"lung_{lobe}_lobe_right",), (f"lung_{lobe}_lobe_left",)
    z = (-70.0, 150.0)
    return Site(right, ("right", "right-sided"), 1, z, RIGHT_LOBES), Site(
        left, ("left", "left-sided"), -1, z, LEFT_LOBES
    )


def _side_lobes(side: int) -> tuple[int, ...]:
    return (1, 2, 3) if side > 0 else (4, 5)


@finding(
    "pleural effusion",
    label="Pleural effusion",
    sites=_sides("lower"),
    sizes={"small": (20.0, 28.0), "large": (52.0, 80.0)},
    section="pleura",
    weight=1.8,
    steps=[
        "There is a {size} {loc} pleural effusion.",
        "A {size} {loc} pleural effusion is present.",
        "{A_size} amount of {loc} pleural fluid is seen layering dependently.",
        "{Size} free fluid is noted in the {loc} pleural space.",
    ],
    impressions=[
        "{Size} {loc} pleural effusion.",
        "{Loc} pleural effusion, {size}.",
        "{Size} effusion in the {loc} pleural space.",
    ],
)
def _draw_effusion(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    box = canvas.box((-152, -112, -112), (152, 105, 120))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    # A crescent: deep posteriorly and basally, rising along the lateral wall.
    creep = np.maximum(np.abs(x) - np.float32(55), 0) * np.float32(0.35) - np.maximum(z - 10, 0) * np.float32(0.45)
    level = np.float32(-102 + f.amount + rng.normal(0, 2)) + creep
    inside = np.isin(canvas.region[box], _side_lobes(f.site.key))
    # Lung next to the fluid is compressed.
    canvas.paint(box, y - level - 7, np.maximum(canvas.hu[box], -380), inside=inside, edge=10.0)
    canvas.paint(box, y - level, np.float32(rng.uniform(3, 16)), lesion=f.lesion, inside=inside)


@finding(
    "pneumothorax",
    sites=_sides("upper"),
    sizes={"small": (14.0, 20.0), "large": (34.0, 52.0)},
    section="pleura",
    steps=[
        "There is a {size} {loc} pneumothorax.",
        "A {size} {loc} pneumothorax is present.",
        "{Size} {loc} pneumothorax is seen anteriorly.",
        "Free air is noted in the {loc} pleural space, in keeping with a {size} pneumothorax.",
    ],
    impressions=["{Size} {loc} pneumothorax.", "{Loc} pneumothorax, {size}."],
)
def _draw_pneumothorax(canvas: Canvas, f: Finding) -> None:
    box = canvas.box((-152, -112, -60), (152, 108, 172))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    depth = -canvas.cavity[box]
    thick = np.float32(f.amount) * np.clip((y + 55) / 110, 0, 1)
    inside = np.isin(canvas.region[box], _side_lobes(f.site.key))
    line = np.abs(depth - thick - 1.5) - 1.5
    canvas.paint(box, np.where(thick > 3, line, np.float32(9)), -330.0, inside=inside)
    canvas.paint(box, np.where(thick > 3, depth - thick, np.float32(9)), -1000.0, lesion=f.lesion, inside=inside)


@finding(
    "cavitary lesion",
    sites=(RUL, LUL, RLL, LLL),
    sizes={"small": (11.0, 14.0), "large": (20.0, 28.0)},
    section="lungs",
    weight=0.6,
    steps=[
        "There is a {size} thick-walled cavitary lesion in {loc}.",
        "A {size} cavity is seen in {loc}.",
        "{Loc} contains a {size} cavitating lesion.",
        "A {size} cavitary mass is present in {loc}.",
    ],
    impressions=[
        "{Size} cavitary lesion in {loc}.",
        "{Size} thick-walled cavity, {loc}.",
        "Cavitating lesion of {loc}, {size}.",
    ],
)
def _draw_cavity(canvas: Canvas, f: Finding) -> None:
    rng = np.random.default_rng(f.seed)
    center = centers(canvas, f, 1, rng, f.amount + 5)[0]
    radii = f.amount * rng.uniform(0.9, 1.15, 3)
    draw_ellipsoid(canvas, center, radii, 40.0, lesion=f.lesion, inside=within(canvas, f.site.key))
    draw_ellipsoid(
        canvas,
        center + rng.normal(0, 1, 3),
        radii - 4 - 0.1 * f.amount,
        -960.0,
        lesion=f.lesion,
        inside=within(canvas, f.site.key),
    )
