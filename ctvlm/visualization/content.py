"""Choose HU windows from the content of a CT."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Aerated lung, without the air outside the body and in the bowel.
LUNG_HU = (-960, -500)
MIN_LUNG_ML = 60.0
BONE_HU = 200
# Area enclosed by a skull in an axial slice; a spinal canal encloses about 3 cm².
MIN_BRAIN_CM2 = 25.0
# Range of the median HU of brain, with or without contrast.
BRAIN_HU = (10, 70)


def content_windows(hu: np.ndarray, spacing: tuple[float, float, float]) -> tuple[str, ...]:
    """Names of the windows to draw: lung only for CTs with lung, brain instead of soft tissue for heads.

    Args:
        hu: (D, H, W), RAS+.
        spacing: mm, (z, y, x).
    """
    lung = has_lung(hu, spacing)
    tissue = "brain" if not lung and is_head(hu, spacing) else "soft_tissue"
    return ("lung", tissue, "bone") if lung else (tissue, "bone")


def fitting_window(window: str, shown: tuple[str, ...]) -> str:
    """``window`` if it is one of ``shown``, otherwise the soft-tissue or brain window of ``shown``."""
    return window if window in shown else next(name for name in shown if name not in ("lung", "bone"))


def has_lung(hu: np.ndarray, spacing: tuple[float, float, float]) -> bool:
    """Whether a connected component of at least 60 ml inside the body has the HU of aerated lung."""
    coarse, sizes = _coarser(hu, spacing, 4.0)
    dark = coarse < LUNG_HU[1]
    if dark.mean() > 0.5 and np.median(coarse[dark]) > -985:
        return True  # a crop inside the lungs, without the body and the air around it
    # Foam and blankets have the same HU, but are outside the body.
    aerated = dark & (coarse > LUNG_HU[0]) & _inside(coarse)
    # The opening removes skin and bowel walls, where voxels contain both air and tissue.
    labels, count = ndimage.label(ndimage.binary_opening(aerated, np.ones((1, 3, 3), bool)))
    return count > 0 and np.bincount(labels.ravel())[1:].max() * np.prod(sizes) / 1000 >= MIN_LUNG_ML


def is_head(hu: np.ndarray, spacing: tuple[float, float, float]) -> bool:
    """Whether a fifth of the axial slices show a closed ring of bone around brain."""
    coarse, sizes = _coarser(hu, spacing, 2.0, axial=8.0)
    heads = 0
    for level in coarse:
        bone = ndimage.binary_closing(np.pad(level > BONE_HU, 2), np.ones((3, 3), bool))[2:-2, 2:-2]
        enclosed = ndimage.binary_fill_holes(bone) & ~bone
        large = np.count_nonzero(enclosed) * sizes[1] * sizes[2] / 100 >= MIN_BRAIN_CM2
        heads += large and BRAIN_HU[0] <= np.median(level[enclosed]) <= BRAIN_HU[1]
    return heads >= max(1, 0.2 * len(coarse))


def _coarser(hu: np.ndarray, spacing: tuple[float, float, float], mm: float, axial: float | None = None):
    """Subsample to a spacing of about ``mm`` (``axial`` along z); returns the array and the new spacing."""
    steps = [max(1, round(wanted / s)) for wanted, s in zip((axial or mm, mm, mm), spacing)]
    return hu[:: steps[0], :: steps[1], :: steps[2]], [n * s for n, s in zip(steps, spacing)]


def _inside(hu: np.ndarray) -> np.ndarray:
    """Mask of voxels between body voxels along both axes of the axial slice."""
    tissue = ndimage.binary_opening(hu > -300, np.ones((1, 3, 3), bool))
    labels, count = ndimage.label(tissue)
    if count == 0:
        return np.zeros_like(tissue)
    body = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    within = np.ones_like(body)
    for axis in (1, 2):
        before = np.maximum.accumulate(body, axis=axis)
        after = np.flip(np.maximum.accumulate(np.flip(body, axis), axis=axis), axis)
        within &= before & after
    return within
