"""Effects of the scanner: blur, noise, quantisation."""

from __future__ import annotations

import numpy as np

from ctvlm.phantom.canvas import Canvas


def acquire(canvas: Canvas, seed: int) -> np.ndarray:
    """Add blur and noise to a canvas; returns HU as int16 (D, H, W).

    The noise level is that of 3.6 mm voxels. It increases for smaller voxels, but less than photon statistics predict,
    because real reconstructions smooth. It is higher inside the body than in air.
    """
    p = canvas.patient
    hu = canvas.hu
    for axis in (1, 2):  # blur in the plane by a three-tap kernel
        step = np.diff(hu, axis=axis)
        step *= np.float32(p.blur)
        ahead = [slice(None)] * 3
        behind = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(None, -1), slice(1, None)
        hu[tuple(ahead)] += step
        hu[tuple(behind)] -= step
    rng = np.random.default_rng(seed)
    level = p.noise * float(np.clip((3.6 / canvas.spacing[2]) ** 0.5, 0.7, 2.0))
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    noise *= np.where(hu < -960, np.float32(0.6 * level), np.float32(level))
    hu += noise
    np.clip(hu, -1024, 3071, out=hu)
    return np.rint(hu, out=hu).astype(np.int16)
