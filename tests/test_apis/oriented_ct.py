"""CTs with a bright ellipsoid in all orientations, and a stand-in for a model that finds it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch

LIVER = 12
SIZE = np.array([60, 52, 44])
CENTRE = (38, 20, 27)  # of the ellipsoid, in voxels (x, y, z)
ANGLE = np.radians(20)
ROTATION = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
TILT = np.array([[1, 0, 0], [0, 1, np.tan(np.radians(15))], [0, 0, 1]])
AXES = {
    "RAS": np.eye(3),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "SAR": np.eye(3)[:, [2, 1, 0]],
    "oblique": ROTATION @ np.diag([-1.0, -1.0, 1.0]),
    "sheared": TILT,
}


def write_oriented_ct(path: Path, axes: np.ndarray) -> Path:
    """A block of soft tissue with a bright ellipsoid, written by nibabel with these axes."""
    affine = np.eye(4)
    affine[:3, :3] = axes * [3.0, 3.0, 3.5]
    affine[:3, 3] = np.array([11.0, -200.0, 700.0]) - affine[:3, :3] @ (SIZE / 2)
    index = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"))
    hu = np.full(SIZE, -1000.0)
    hu[4:-4, 4:-4, 3:-3] = 40
    radius = (index - np.array(CENTRE)[:, None, None, None]) / np.array([11, 8, 9])[:, None, None, None]
    hu[(radius**2).sum(axis=0) < 1] = 300
    hu += np.random.default_rng(0).integers(-8, 9, SIZE)
    image = nib.Nifti1Image(hu.astype(np.int16), affine)
    image.set_sform(affine, 1)
    image.set_qform(None, 0)
    nib.save(image, path)
    return path


class BrightIsLiver:
    """Predicts the liver where the volume is bright."""

    needs = frozenset({"pred_region_map"})

    def predict(self, context, keys):
        assert keys == {"pred_region_map"}
        for sample, volume_1DHW in zip(context.samples, context.inputs["volume"], strict=True):
            sample.pred_region_map = ((volume_1DHW[0] > 170) * LIVER).to(torch.uint8)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
