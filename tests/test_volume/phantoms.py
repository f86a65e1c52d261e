"""Small volumes with known content for the reader tests."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np

from ctvlm.volume import CTVolume

# All orientations of three axes: 6 permutations times 8 flips.
ORIENTATIONS = [
    "".join(code) for axes in itertools.permutations(("RL", "AP", "SI")) for code in itertools.product(*axes)
]


def make_ct(shape=(6, 8, 10), spacing=(3.0, 1.5, 0.75), seed=0) -> CTVolume:
    """Asymmetric HU noise: any flip or transpose changes it."""
    hu = np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16)
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = (-40, -60, 20)
    return CTVolume(hu, affine)


def save_as(volume: CTVolume, path, orientation="RAS", dtype=None) -> None:
    """Write NIfTI with axes in the given orientation and the matching affine."""
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0).astype(dtype or volume.array.dtype), volume.affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
    )
    nib.save(image.as_reoriented(turn), path)


def rotated(volume: CTVolume, degrees: float) -> CTVolume:
    """The same voxels with the affine rotated about two axes."""
    a = np.deg2rad(degrees)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(a / 2), -np.sin(a / 2)], [0, np.sin(a / 2), np.cos(a / 2)]])
    affine = volume.affine.copy()
    affine[:3] = about_z @ about_x @ affine[:3]
    return CTVolume(volume.array, affine)
