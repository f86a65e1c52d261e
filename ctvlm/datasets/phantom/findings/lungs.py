"""Findings of the lungs and the pleura."""

from __future__ import annotations

import numpy as np

from ctvlm.datasets.phantom import geometry as geo
from ctvlm.datasets.phantom.canvas import Box, Canvas
from ctvlm.datasets.phantom.findings.base import Finding, Site, finding
from ctvlm.datasets.phantom.shapes import draw_ellipsoid, draw_segments, draw_tube, ellipsoid, smooth_noise


def _lobe(name: str, region: str, side: str, where: str, key: tuple[int, ...]) -> Site:
    words = (f"the {name}", f"the {where} lobe of the {side} lung", f"the {name}")
    return Site((region,), words, key, (-70.0, 150.0))


RUL = _lobe("right upper lobe", "lung_upper_lobe_right", "right", "upper", (1,))
RML = _lobe("right middle lobe", "lung_middle_lobe_right", "right", "middle", (2,))
RLL = _lobe("right lower lobe", "lung_lower_lobe_right", "right", "lower", (3,))
LUL = _lobe("left upper lobe", "lung_upper_lobe_left", "left", "upper", (4,))
LLL = _lobe("left lower lobe", "lung_lower_lobe_left", "left", "lower", (5,))
LOBES = (RUL, RML, RLL, LUL, LLL)
BOTH_LOWER = Site(("lung_lower_lobe_right", "lung_lower_lobe_left"), ("both lower lobes", "the lower lobes bilaterally"), (3, 5))
BOTH_UPPER = Site(("lung_upper_lobe_right", "lung_upper_lobe_left"), ("both upper lobes", "the upper lobes bilaterally"), (1, 4))
LUNG = dict(section="lungs")


def _in(canvas: Canvas, ids: tuple[int, ...]):
    return lambda box: np.isin(canvas.region[box], ids)


def _rng(f: Finding) -> np.random.Generator:
    return np.random.default_rng(f.seed)


def _centers(canvas: Canvas, f: Finding, count: int, rng: np.random.Generator, margin: float) -> np.ndarray:
    low, high = canvas.patient.template_z
    return geo.lung_points(canvas.patient, f.site.key, count, rng, margin, (low + 10, high - 10))


def _cloud(canvas: Canvas, center, radii, rng, rough: float, wavelength: float = 24.0) -> tuple[Box, np.ndarray] | None:
    """Box and distance of an ellipsoid with a ragged border."""
    reach = np.max(radii) + 2 * rough
    box = canvas.box(center - reach, center + reach)
    if box is None:
        return None
    x, y, z = canvas.coords(box)
    distance = ellipsoid(x, y, z, center, radii) + smooth_noise(x, y, z, rng, wavelength, 5) * np.float32(rough)
    return box, distance


def _brighten(canvas: Canvas, box: Box, distance, hu, f: Finding, inside, **kwargs) -> None:
    """Raise HU to at least ``hu``, so that vessels shine through."""
    canvas.paint(box, distance, np.maximum(canvas.hu[box], hu), lesion=f.lesion, inside=inside, **kwargs)


@finding(
    "lung nodule", label="Lung nodule", sites=LOBES, sizes={"small": (6.0, 8.0), "large": (11.0, 16.0)}, weight=1.6, **LUNG,
    steps=["There is a {size} solid nodule in {loc}.", "A {size} pulmonary nodule is seen in {loc}.",
           "{Loc} contains a {size} well-defined nodule.", "A {size} solid nodular lesion is present in {loc}.",
           "In {loc}, a {size} soft tissue nodule is observed."],
    impressions=["{Size} nodule in {loc}.", "{Size} solid pulmonary nodule, {loc}.", "Solitary {size} nodule of {loc}."],
)  # fmt: skip
def draw_nodule(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    center = _centers(canvas, f, 1, rng, f.amount + 6)[0]
    draw_ellipsoid(canvas, center, f.amount * rng.uniform(0.9, 1.1, 3), 38.0, lesion=f.lesion, inside=_in(canvas, f.site.key))
    for _ in range(3):
        at = center + rng.normal(0, 0.45 * f.amount, 3)
        draw_ellipsoid(canvas, at, [0.6 * f.amount] * 3, 34.0, lesion=f.lesion, inside=_in(canvas, f.site.key))


@finding(
    "ground-glass opacity", label="Lung opacity", sites=LOBES, sizes={"small": (17.0, 24.0), "extensive": (32.0, 46.0)},
    weight=1.3, **LUNG,
    steps=["There is {a_size} area of ground-glass opacity in {loc}.", "{Size} ground-glass attenuation is seen in {loc}.",
           "{Loc} shows {a_size} ground-glass opacity.", "{A_size} hazy ground-glass density is noted in {loc}."],
    impressions=["{Size} ground-glass opacity in {loc}.", "Ground-glass infiltrate of {loc}, {size}.",
                 "{Size} ground-glass density, {loc}."],
)  # fmt: skip
def draw_ground_glass(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    center = _centers(canvas, f, 1, rng, 14)[0]
    cloud = _cloud(canvas, center, f.amount * rng.uniform(0.8, 1.15, 3), rng, 4.0)
    if cloud is not None:
        box, distance = cloud
        _brighten(canvas, box, distance, np.float32(rng.uniform(-620, -520)), f, _in(canvas, f.site.key)(box), edge=8.0)


@finding(
    "consolidation", label="Consolidation", sites=LOBES, sizes={"small": (16.0, 22.0), "large": (28.0, 40.0)}, weight=1.3, **LUNG,
    steps=["There is a {size} consolidation in {loc}.", "{A_size} airspace consolidation with air bronchograms is seen in {loc}.",
           "{Loc} shows {a_size} area of consolidation.", "A {size} dense parenchymal consolidation is present in {loc}."],
    impressions=["{Size} consolidation in {loc}.", "{Size} airspace consolidation of {loc}, likely pneumonic.",
                 "Consolidative change in {loc}, {size}."],
)  # fmt: skip
def draw_consolidation(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    center = _centers(canvas, f, 1, rng, 11)[0]
    cloud = _cloud(canvas, center, f.amount * rng.uniform(0.8, 1.15, 3), rng, 3.5, 18.0)
    if cloud is None:
        return
    box, distance = cloud
    canvas.paint(box, distance, np.float32(rng.uniform(25, 50)), lesion=f.lesion, inside=_in(canvas, f.site.key)(box))
    hilum = geo.HILUM[1 if f.site.key[0] <= 3 else -1]
    inward = (hilum - center) / np.linalg.norm(hilum - center)
    inside = lambda b: canvas.lesion[b] == f.lesion  # noqa: E731
    ends = center + rng.normal(0, 0.5 * f.amount, (4, 3))
    starts = center + inward * f.amount + rng.normal(0, 3, (4, 3))
    draw_segments(canvas, starts, ends, 2.0, -820.0, inside=inside)


@finding(
    "atelectasis", label="Atelectasis", sites=LOBES, sizes={"thin": (2.4, 3.2), "thick": (5.0, 7.5)}, **LUNG,
    steps=["A {size} band of atelectasis is seen in {loc}.", "There is {size} linear atelectasis in {loc}.",
           "{Loc} shows {size} subsegmental band atelectasis.", "{A_size} plate-like atelectatic band crosses {loc}."],
    impressions=["{Size} band atelectasis in {loc}.", "Linear atelectasis of {loc}, {size}.",
                 "{Size} subsegmental atelectatic band, {loc}."],
)  # fmt: skip
def draw_atelectasis(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    center = _centers(canvas, f, 1, rng, 12)[0]
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
    canvas.paint(box, distance, 10.0, lesion=f.lesion, inside=_in(canvas, f.site.key)(box), strength=strength)


@finding(
    "emphysema", label="Emphysema", sites=(RUL, LUL, BOTH_UPPER, RLL, LLL), sizes={"mild": (16, 26), "severe": (60, 90)}, **LUNG,
    steps=["{Size} emphysema is present in {loc}.", "There are {size} emphysematous changes in {loc}.",
           "{Loc_s} {size} centrilobular emphysema.", "{Size} areas of emphysematous lucency are seen in {loc}."],
    impressions=["{Size} emphysema in {loc}.", "{Size} emphysematous change of {loc}.", "Centrilobular emphysema, {size}, {loc}."],
)  # fmt: skip
def draw_emphysema(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    for at in _centers(canvas, f, int(f.amount), rng, 3):
        size = rng.uniform(4.5, 10 if f.amount < 40 else 14)
        draw_ellipsoid(canvas, at, size * rng.uniform(0.8, 1.3, 3), rng.uniform(-1000, -970), lesion=f.lesion,
                       inside=_in(canvas, f.site.key))  # fmt: skip


@finding(
    "pulmonary fibrotic sequela", label="Pulmonary fibrotic sequela", sites=(RUL, LUL, RML, RLL, LLL),
    sizes={"mild": (7, 10), "marked": (18, 26)}, **LUNG,
    steps=["{Size} fibrotic sequelae are seen in {loc}.", "There are {size} fibrotic scars with volume loss in {loc}.",
           "{Loc_s} {size} sequela fibrotic changes.", "{Size} pleuroparenchymal fibrotic scarring is noted in {loc}."],
    impressions=["{Size} fibrotic sequelae in {loc}.", "{Size} pleuroparenchymal scarring of {loc}.",
                 "Sequela fibrotic change in {loc}, {size}."],
)  # fmt: skip
def draw_fibrosis(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    center = _centers(canvas, f, 1, rng, 8)[0]
    side = 1 if f.site.key[0] <= 3 else -1
    outward = np.array((side * 0.8, rng.normal(0, 0.5), 0.6 if f.site.key[0] in (1, 4) else -0.3))
    focus = center + outward * 8
    spread = 16 + 0.5 * f.amount
    cloud = _cloud(canvas, focus, (spread, spread, spread), rng, 5.0)
    if cloud is not None:
        _brighten(canvas, *cloud, np.float32(-690), f, _in(canvas, f.site.key)(cloud[0]), edge=12.0)
    count = int(f.amount)
    starts = focus + rng.normal(0, 6, (count, 3))
    ends = focus + rng.normal(0, spread, (count, 3)) * (1, 1, 0.9)
    draw_segments(canvas, starts, ends, rng.uniform(1.4, 2.8, count), 0.0, inside=_in(canvas, f.site.key), lesion=f.lesion)


@finding(
    "mosaic attenuation", label="Mosaic attenuation pattern", sites=(BOTH_LOWER, BOTH_UPPER), sizes={"mild": (70, 95), "marked": (150, 190)},
    **LUNG,
    steps=["{Size} mosaic attenuation is seen in {loc}.", "There is a {size} mosaic pattern of attenuation in {loc}.",
           "{Loc_s} {size} mosaic attenuation, suggesting air trapping.", "A {size} patchwork of differing lung density is present in {loc}."],
    impressions=["{Size} mosaic attenuation of {loc}.", "{Size} mosaic attenuation pattern in {loc}, small airway disease considered.",
                 "Mosaic pattern in {loc}, {size}."],
)  # fmt: skip
def draw_mosaic(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    box = canvas.box((-152, -110, -105), (152, 105, 170))
    if box is None:
        return
    x, y, z = canvas.coords(box)
    patches = np.tanh(smooth_noise(x, y, z, rng, 46.0, 6) * np.float32(3))
    inside = _in(canvas, f.site.key)(box)
    canvas.hu[box] += np.where(inside, np.where(patches > 0, patches * np.float32(f.amount), patches * np.float32(45)), 0)
    canvas.lesion[box][inside & (patches > 0)] = f.lesion


@finding(
    "bronchiectasis", label="Bronchiectasis", sites=LOBES, sizes={"mild": (3.6, 4.6), "marked": (6.5, 9.0)}, **LUNG,
    steps=["{Size} bronchiectasis is present in {loc}.", "There is {size} bronchial dilatation in {loc}.",
           "{Loc_s} {size} bronchiectatic changes.", "{Size} cylindrical bronchiectasis is seen in {loc}."],
    impressions=["{Size} bronchiectasis in {loc}.", "{Size} bronchiectatic change of {loc}.", "Bronchial dilatation in {loc}, {size}."],
)  # fmt: skip
def draw_bronchiectasis(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    hilum = geo.HILUM[1 if f.site.key[0] <= 3 else -1]
    ends = _centers(canvas, f, 5, rng, 8)
    inside = _in(canvas, f.site.key)
    for wall, hu in ((2.0, -80.0), (0.0, -990.0)):
        for i, end in enumerate(ends):
            start = end + (hilum - end) * 0.55
            middle = (start + end) / 2 + np.random.default_rng(f.seed + i).normal(0, 5, 3)
            sizes = np.array([0.8, 1.0, 1.15]) * f.amount + wall
            draw_tube(canvas, [start, middle, end], sizes, hu, lesion=f.lesion, inside=inside)


@finding(
    "peribronchial thickening", label="Peribronchial thickening", sites=(RUL, RLL, LUL, LLL),
    sizes={"mild": (5.5, 6.5), "marked": (9.0, 11.0)}, weight=0.7, **LUNG,
    steps=["{Size} peribronchial thickening is seen in {loc}.", "There is {size} bronchial wall thickening in {loc}.",
           "{Loc_s} {size} peribronchial cuffing.", "The bronchial walls in {loc} show {size} thickening."],
    impressions=["{Size} peribronchial thickening in {loc}.", "{Size} bronchial wall thickening of {loc}.", "Peribronchial cuffing, {size}, {loc}."],
)  # fmt: skip
def draw_cuffing(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    hilum = geo.HILUM[1 if f.site.key[0] <= 3 else -1]
    ends = hilum + (_centers(canvas, f, 4, rng, 8) - hilum) * 0.75
    inside = _in(canvas, f.site.key)
    for radius, hu in ((f.amount, 20.0), (2.0, -930.0)):
        for end in ends:
            draw_tube(canvas, [hilum + (end - hilum) * 0.1, end], [radius, radius * 0.75], hu, lesion=f.lesion, inside=inside)


@finding(
    "interlobular septal thickening", label="Interlobular septal thickening", sites=(RUL, RLL, LUL, LLL, BOTH_LOWER),
    sizes={"mild": (170, 230), "marked": (400, 500)}, **LUNG,
    steps=["{Size} interlobular septal thickening is present in {loc}.", "There is {size} smooth thickening of the interlobular septa in {loc}.",
           "{Loc_s} {size} septal thickening.", "The interlobular septa of {loc} show {size} thickening."],
    impressions=["{Size} interlobular septal thickening in {loc}.", "{Size} septal thickening of {loc}, possibly interstitial oedema.",
                 "Thickened interlobular septa in {loc}, {size}."],
)  # fmt: skip
def draw_septa(canvas: Canvas, f: Finding) -> None:
    rng = _rng(f)
    box = canvas.box((-152, -110, -105), (152, 105, 170))
    if box is None:
        return
    inside = _in(canvas, f.site.key)(box)
    x, y, z = canvas.coords(box)
    zero = smooth_noise(x, y, z, rng, 42.0, 4)
    lines = np.clip(1.15 - np.abs(zero) * np.float32(42 / 6.283 / max(2.6, canvas.edge * 0.75)), 0, 1)
    zero = smooth_noise(x, y, z, rng, 42.0, 4)
    lines = np.maximum(lines, np.clip(1.15 - np.abs(zero) * np.float32(42 / 6.283 / max(2.6, canvas.edge * 0.75)), 0, 1))
    lines *= inside
    canvas.hu[box] += lines * np.float32(f.amount * min(1.0, 1.6 * 2.6 / canvas.edge))
    canvas.lesion[box][lines > 0.5] = f.lesion
