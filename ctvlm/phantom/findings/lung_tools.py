"""Sites of lung findings and functions that draw them."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom import geometry as geo
from ctvlm.phantom.canvas import Box, Canvas
from ctvlm.phantom.findings.base import Finding, Site
from ctvlm.phantom.shapes import ellipsoid, smooth_noise


def _lobe(name: str, region: str, side: str, where: str, key: tuple[int, ...]) -> Site:
    words = (f"the {name}", f"the {where} lobe of the {side} lung", f"the {name}")
    return Site((region,), words, key, (-70.0, 150.0))


RUL = _lobe("right upper lobe", "lung_upper_lobe_right", "right", "upper", (1,))
RML = _lobe("right middle lobe", "lung_middle_lobe_right", "right", "middle", (2,))
RLL = _lobe("right lower lobe", "lung_lower_lobe_right", "right", "lower", (3,))
LUL = _lobe("left upper lobe", "lung_upper_lobe_left", "left", "upper", (4,))
LLL = _lobe("left lower lobe", "lung_lower_lobe_left", "left", "lower", (5,))
LOBES = (RUL, RML, RLL, LUL, LLL)
BOTH_LOWER = Site(
    ("lung_lower_lobe_right", "lung_lower_lobe_left"), ("both lower lobes", "the lower lobes bilaterally"), (3, 5)
)
BOTH_UPPER = Site(
    ("lung_upper_lobe_right", "lung_upper_lobe_left"), ("both upper lobes", "the upper lobes bilaterally"), (1, 4)
)


def centers(canvas: Canvas, f: Finding, count: int, rng: np.random.Generator, margin: float) -> np.ndarray:
    """Sample points in the lobes of the site and in the scan, up to ``margin`` mm away from borders."""
    low, high = canvas.patient.template_z
    return geo.lung_points(canvas.patient, f.site.key, count, rng, margin, (low + 10, high - 10))


def cloud(canvas: Canvas, center, radii, rng, rough: float, wavelength: float = 24.0) -> tuple[Box, np.ndarray] | None:
    """Box and distance of an ellipsoid with an irregular border."""
    reach = np.max(radii) + 2 * rough
    box = canvas.box(center - reach, center + reach)
    if box is None:
        return None
    x, y, z = canvas.coords(box)
    distance = ellipsoid(x, y, z, center, radii) + smooth_noise(x, y, z, rng, wavelength, 5) * np.float32(rough)
    return box, distance


def brighten(canvas: Canvas, box: Box, distance, hu, f: Finding, inside, **kwargs) -> None:
    """Raise HU to at least ``hu``; vessels stay visible."""
    canvas.paint(box, distance, np.maximum(canvas.hu[box], hu), lesion=f.lesion, inside=inside, **kwargs)
