"""Volumes with geometry: reading, checking, resampling, windows."""

from ctvlm.volume.ct_volume import CTReadError, CTVolume
from ctvlm.volume.io import read_ct, read_label_map, write_nifti
from ctvlm.volume.match import MaskMismatchError, match_mask
from ctvlm.volume.resample import (
    body_box,
    crop,
    crop_or_pad,
    resample_to_grid,
    resample_to_shape,
    resample_to_spacing,
)

__all__ = [
    "CTReadError",
    "CTVolume",
    "MaskMismatchError",
    "body_box",
    "crop",
    "crop_or_pad",
    "match_mask",
    "read_ct",
    "read_label_map",
    "resample_to_grid",
    "resample_to_shape",
    "resample_to_spacing",
    "write_nifti",
]
