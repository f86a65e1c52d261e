"""Medical material: devices and implants."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Canvas
from ctvlm.phantom.findings.base import Finding, Site, finding
from ctvlm.phantom.ids import AORTA, SPINE
from ctvlm.phantom.shapes import draw_ellipsoid, draw_segments, draw_tube

PRESENT = {"": (1.0, 1.0)}


@finding(
    "cardiac pacemaker",
    section="heart",
    sizes=PRESENT,
    label="Medical material",
    sites=[Site(("heart",), ("the left chest wall",), None, (-10.0, 125.0))],
    weight=0.6,
    steps=[
        "A cardiac pacemaker is seen in {loc}, with its lead in the right heart.",
        "There is a pacemaker generator in {loc}; the lead ends in the heart.",
        "Medical material: pacemaker in {loc} with a right ventricular lead.",
    ],
    impressions=[
        "Cardiac pacemaker in {loc}.",
        "Pacemaker with right heart lead.",
        "Medical material (cardiac pacemaker).",
    ],
)
def _draw_pacemaker(canvas: Canvas, f: Finding) -> None:
    p = canvas.patient
    a, yc, b = (float(v) for v in geo.profile(geo.MUSCLE, np.float32(112)))
    center = np.array((-84.0, yc + 0.9 * b, 112.0))
    draw_ellipsoid(canvas, center, (23, 8, 21), 2600.0, lesion=f.lesion)
    heart, _, _ = geo.heart_frame(p)
    lead = np.array(
        [
            np.add(center, (12, 0, 10)),
            (-50, 24, 140),
            (20, 16, 128),
            (28, 16, 100),
            (26, 22, 50),
            np.add(heart, (14, 14, -6)),
            np.add(heart, (-20, 20, -16)),
        ]
    )
    draw_segments(canvas, lead[:-1], lead[1:], 2.0, 2200.0, lesion=f.lesion)


@finding(
    "central venous catheter",
    section="vessels",
    sizes=PRESENT,
    label="Medical material",
    sites=[Site(("mediastinum",), ("the superior vena cava",), None, (60.0, 135.0))],
    weight=0.6,
    steps=[
        "A central venous catheter ends in {loc}.",
        "The tip of a right jugular central venous catheter lies in {loc}.",
        "Medical material: central venous catheter with its tip in {loc}.",
    ],
    impressions=[
        "Central venous catheter in {loc}.",
        "Central line with its tip in {loc}.",
        "Medical material (central venous catheter).",
    ],
)
def _draw_catheter(canvas: Canvas, f: Finding) -> None:
    path = np.array([(35, -8, 215), (33, 4, 158), (25, 18, 132), (28, 16, 112), (29, 16, 74)], np.float64)
    draw_segments(canvas, path[:-1], path[1:], 2.4, 1600.0, lesion=f.lesion)


@finding(
    "aortic stent graft",
    section="vessels",
    sizes=PRESENT,
    label="Medical material",
    sites=[Site(("aorta",), ("the descending thoracic aorta",), (2,), (-10.0, 90.0))],
    weight=0.5,
    steps=[
        "A stent graft is seen in {loc}.",
        "There is an endovascular stent in {loc}.",
        "Medical material: stent graft of {loc}.",
    ],
    impressions=["Stent graft in {loc}.", "Endovascular stent of {loc}.", "Medical material (aortic stent graft)."],
)
def _draw_stent(canvas: Canvas, f: Finding) -> None:
    points, radius, part = geo.aorta_path(canvas.patient)
    rows = np.flatnonzero(part == 2)[:-1]
    draw_tube(canvas, points[rows], radius[rows] + 1.2, 1300.0, AORTA, f.lesion)
    draw_tube(canvas, points[rows], radius[rows] - 1.8, canvas.patient.hu["aorta"])


@finding(
    "spinal fixation hardware",
    section="bones",
    sizes=PRESENT,
    label="Medical material",
    sites=[
        Site(("spine",), ("the mid thoracic spine",), (22, 80), (10.0, 90.0)),
        Site(("spine",), ("the thoracolumbar junction",), (-92, -25), (-95.0, -20.0)),
    ],
    weight=0.6,
    steps=[
        "Metallic fixation hardware is seen in {loc}.",
        "There are rods and pedicle screws in {loc}.",
        "Medical material: posterior fixation of {loc}.",
    ],
    impressions=[
        "Posterior fixation of {loc}.",
        "Fixation hardware in {loc}.",
        "Medical material (rods and screws) in {loc}.",
    ],
)
def _draw_fixation(canvas: Canvas, f: Finding) -> None:
    low, high = f.site.key
    for s in (1, -1):
        rod = [np.array((s * 17, geo.spine_y(h) - 38, h)) for h in np.linspace(low, high, 4)]
        draw_tube(canvas, rod, 3.0, 2800.0, SPINE, f.lesion)
        for h in np.linspace(low + 4, high - 4, 4):
            head = np.array((s * 17, geo.spine_y(h) - 38, h))
            draw_segments(canvas, [head], [np.add(head, (-s * 9, 42, 0))], 2.8, 2600.0, lesion=f.lesion)
